// Package architecture holds the tests that keep the shape of this repository:
// who may import whom, where each library lives, how large things may grow.
//
// The tests parse the files themselves, so that go test notices every change
// to them. The tables stand in tables_test.go; to change one is a decision, made
// in the same commit as the line about it in ARCHITECTURE.md.
package architecture
