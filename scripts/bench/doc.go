// Command bench measures the journal beside its peers, on one disk and in one run.
//
// It is a module of its own, so that the peers stay out of the daemon's go.mod.
// The figures in internal/journal/DESIGN.md come from it: see make bench.
package main
