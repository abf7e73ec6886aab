// Package journal keeps every accepted event, in order, on disk. DESIGN.md in
// this directory says how, and what a crash at each point means.
package journal
