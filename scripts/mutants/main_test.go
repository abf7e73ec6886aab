package main

import "testing"

// TestTable: the code changes, and each fault must still be one that can be put in.
func TestTable(t *testing.T) {
	t.Chdir("../..")
	for _, m := range mutants() {
		if _, err := m.apply(); err != nil {
			t.Error(err)
		}
	}
}
