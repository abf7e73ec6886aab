//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// goal is what 99 of 100 finds take at most where there is a way.
const goal = 3 * time.Second

// result is what was measured in one network.
type result struct {
	network
	took  []time.Duration // sorted
	ways  map[string]int
	tries int // searches; more than finds: some ended without a box
	wrong int // finds that led to another venue
	said  int // searches without a way that said what to do
}

func most(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	return slices.Max(took)
}

// quantile is the smallest of sorted durations that so many are not above.
func quantile(took []time.Duration, q float64) time.Duration {
	return took[min(int(q*float64(len(took))), len(took)-1)]
}

// edges are the upper ends of the histogram's columns.
func edges() []time.Duration {
	ms := time.Millisecond
	return []time.Duration{50 * ms, 100 * ms, 250 * ms, 500 * ms, 1000 * ms, 1500 * ms, 2000 * ms, 3000 * ms}
}

func printTable(out io.Writer, all []result) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\nnetwork\tfinds\tp50 ms\tp99\tmost\tsearches\twrong venue\tby\t")
	for _, e := range edges() {
		fmt.Fprintf(t, "≤%.0f\t", float64(e.Milliseconds()))
	}
	fmt.Fprintln(t, "more\t")
	total := result{network: network{name: "all where there is a way"}, ways: map[string]int{}}
	for i := range all {
		r := &all[i]
		if r.noWay {
			continue
		}
		row(t, r)
		total.took = append(total.took, r.took...)
		total.tries, total.wrong = total.tries+r.tries, total.wrong+r.wrong
		for way, n := range r.ways {
			total.ways[way] += n
		}
	}
	if len(total.took) > 0 {
		slices.Sort(total.took)
		row(t, &total)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range all {
		if r.noWay {
			fmt.Fprintf(out, "\n%s: %d searches, %d led to a box, %d said what to do\n", r.name, r.tries, r.wrong, r.said)
		}
	}
	if len(total.took) == 0 {
		return nil
	}
	word := "NOT REACHED"
	p99 := quantile(total.took, 0.99)
	worst := slices.MaxFunc(all, func(a, b result) int { return int(most(a.took) - most(b.took)) })
	if p99 < goal && total.wrong == 0 {
		word = "reached"
	}
	_, err := fmt.Fprintf(out, "\ngoal: p99 below %s and no wrong venue: %.2f s, %d wrong: %s (most: %.2f s, %s)\n",
		goal, p99.Seconds(), total.wrong, word, most(worst.took).Seconds(), worst.name)
	return err
}

func row(t io.Writer, r *result) {
	var ways []string
	for _, way := range slices.Sorted(maps.Keys(r.ways)) {
		ways = append(ways, fmt.Sprintf("%s %d", way, r.ways[way]))
	}
	ms := func(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d.Microseconds())/1000) }
	fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%d\t%d\t%s\t", r.name, len(r.took), ms(quantile(r.took, 0.5)), ms(quantile(r.took, 0.99)), ms(most(r.took)), r.tries, r.wrong, strings.Join(ways, ", "))
	below := 0
	for _, e := range edges() {
		n, _ := slices.BinarySearch(r.took, e+1)
		fmt.Fprintf(t, "%d\t", n-below)
		below = n
	}
	fmt.Fprintf(t, "%d\t\n", len(r.took)-below)
}
