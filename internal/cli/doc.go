// Package cli is the command line of the box: it reads flags, calls one other
// package, and prints what that returns.
package cli
