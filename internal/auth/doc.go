// Package auth turns a token into a grant, without asking anyone: a box whose
// internet is down still knows who may do what.
package auth
