// Package api answers what an operator or a local program can ask a running
// box, over HTTP, with the access rule of every route beside its path.
package api
