package journal

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Two variables of the environment govern the tests that draw or enumerate:
//
//	AVOQADO_TORTURE=n   how long they run; unset: as long as a change may wait
//	AVOQADO_SEED=s      what they draw; each prints the seed it ran with
const (
	tortureEnv = "AVOQADO_TORTURE"
	seedEnv    = "AVOQADO_SEED"
)

// torture returns how often a test repeats itself: so often for a change, less
// when in a hurry, and so many times n under torture.
func torture(t testing.TB, change, perCount int) int {
	t.Helper()
	if n := tortures(t); n > 0 {
		return n * perCount
	}
	if testing.Short() {
		return max(change/8, 1)
	}
	return change
}

// tortures returns the n of AVOQADO_TORTURE, zero if it is unset.
func tortures(t testing.TB) int {
	t.Helper()
	text := os.Getenv(tortureEnv)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is no number of rounds", tortureEnv, text)
	}
	return n
}

// seed returns what the test draws from, a new one unless it is given.
func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv(seedEnv)
	if text == "" {
		return rand.Uint64N(1<<63-1) + 1
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s=%q is no seed", seedEnv, text)
	}
	return n
}

// tally is what a test that runs long comes to. Its lines are what the table
// at the end of `make torture` is made of.
type tally struct {
	t          testing.TB
	what       string // "kills", …
	count      int
	violations int
	seed       uint64 // zero: nothing was drawn
	note       string
}

// violated reports that a promise was broken, and how.
func (c *tally) violated(format string, args ...any) {
	c.t.Helper()
	c.violations++
	c.t.Errorf(format, args...)
}

func (c *tally) report() {
	c.t.Helper()
	drawn := "-"
	if c.seed != 0 {
		drawn = strconv.FormatUint(c.seed, 10)
	}
	if c.t.Failed() && c.violations == 0 {
		c.violations = 1 // ended by something else
	}
	c.t.Logf("torture: %s|%s|%d|%d|%s|%s", c.t.Name(), c.what, c.count, c.violations, drawn, c.note)
}
