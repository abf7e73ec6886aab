package architecture

import (
	"os"
	"testing"
)

// TestRepository runs every check over the files of this repository.
func TestRepository(t *testing.T) {
	root := os.DirFS("../..")
	all, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(all.packages()) < 2 {
		t.Fatalf("found the packages %v only: is this the root?", all.packages())
	}
	for name, check := range map[string]func(source) []string{
		"arrows":     checkArrows,
		"walls":      checkWalls,
		"packagedoc": checkPackageDoc,
		"documented": checkDocumented,
		"sizes":      checkSizes,
		"habits":     checkHabits,
	} {
		t.Run(name, func(t *testing.T) { report(t, check(all)) })
	}
	t.Run("tree", func(t *testing.T) {
		wrong, err := checkTree(root)
		if err != nil {
			t.Fatal(err)
		}
		report(t, wrong)
	})
	t.Run("rows", func(t *testing.T) {
		document, err := os.ReadFile("../../ARCHITECTURE.md")
		if err != nil {
			t.Fatal(err)
		}
		report(t, checkRows(all, string(document)))
	})
}

func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, line := range wrong {
		t.Error(line)
	}
}
