//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

const (
	bigName   = "box large backlog"
	smallName = "box small backlog"
	boxName   = "box broker, 0 ms"
)

// goal compares two medians.
type goal struct {
	title        string
	a, b         string // scenarios
	figure, base string
	least, most  float64 // one of them
}

func goals() []goal {
	list := []goal{}
	for _, kind := range []string{"broker", "broker gzip", "backend", "backend gzip"} {
		near, far := "box "+kind+", 0 ms", "box "+kind+", 200 ms"
		list = append(list,
			goal{title: kind + ": events/s of the best bridge's", a: near, b: "bridge", figure: "rate", least: 5},
			goal{title: kind + ": events/s at 200 ms of those at 0 ms", a: far, b: near, figure: "rate", least: 0.8},
			goal{title: kind + ": CPU of the best bridge's", a: near, b: "bridge", figure: "cpu", most: 0.5})
	}
	for _, kind := range []string{"broker gzip", "backend gzip"} {
		list = append(list, goal{title: kind + ": bytes on the wire of the best bridge's", a: "box " + kind + ", 0 ms", b: "bridge", figure: "wire", most: 0.25})
	}
	for _, kind := range []string{"live", "live gzip"} {
		for _, rt := range []string{", 0 ms", ", 200 ms"} {
			list = append(list, goal{title: kind + rt + ": p99 during a drain of that without", a: kind + rt, b: kind + rt, figure: "live", base: "idle", most: 2})
		}
	}
	return append(list,
		goal{title: "memory of a tenth of the backlog's", a: boxName, b: smallName, figure: "own", most: 1.25},
		goal{title: "memory at ten times the backlog", a: bigName, b: boxName, figure: "own", most: 1.25})
}

// value is the median of a figure; that of "bridge" is the best bridge's at 0 ms.
func value(runs map[string][]figures, name, figure string) (float64, bool) {
	if name != "bridge" {
		return median(runs[name], figure)
	}
	a, ok := median(runs["bridge default, 0 ms"], figure)
	b, other := median(runs["bridge unlimited, 0 ms"], figure)
	switch {
	case !ok:
		return b, other
	case !other:
		return a, ok
	case figure == "rate":
		return max(a, b), true
	}
	return min(a, b), true
}

func median(runs []figures, key string) (float64, bool) {
	var list []float64
	for _, f := range runs {
		v, ok := f[key]
		if key == "wire" {
			v, ok = f["up"]+f["down"], true
		}
		if ok {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	slices.Sort(list)
	return list[len(list)/2], true
}

func printTable(out io.Writer, s settings, runs map[string][]figures) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\ndrain\tevents/s\tbytes/event up\tdown\tCPU s/100,000\town MiB before\twhile\tpeak RSS MiB\tlive p50 ms\tp99\twithout p50\tp99\t")
	names := []string{}
	for _, c := range scenarios(s) {
		names = append(names, c.name)
	}
	for _, name := range append(names, bigName) {
		if len(runs[name]) == 0 {
			continue
		}
		fmt.Fprint(t, name)
		columns := []string{"rate %.0f", "up %.0f", "down %.1f", "cpu %.2f", "before %.1f", "own %.1f", "peak %.1f", "live p50 %.1f", "live %.1f", "idle p50 %.1f", "idle %.1f"}
		for _, column := range columns {
			key, format, _ := strings.Cut(column, " %")
			fmt.Fprint(t, "\t")
			if v, ok := median(runs[name], key); ok {
				fmt.Fprintf(t, "%"+format, v)
			}
		}
		fmt.Fprintln(t, "\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ngoal\tratio\twanted\t")
	for _, g := range goals() {
		fmt.Fprint(t, g.verdict(runs))
	}
	return t.Flush()
}

// verdict is a line of the table of goals, empty if it was not measured.
func (g goal) verdict(runs map[string][]figures) string {
	base := g.base
	if base == "" {
		base = g.figure
	}
	a, ok := value(runs, g.a, g.figure)
	b, other := value(runs, g.b, base)
	if !ok || !other || b == 0 {
		return ""
	}
	sign, limit, met := "≤", g.most, a/b <= g.most
	if g.least > 0 {
		sign, limit, met = "≥", g.least, a/b >= g.least
	}
	word := "NOT REACHED"
	if met {
		word = "reached"
	}
	return fmt.Sprintf("%s\t%.2f\t%s %.2f\t%s\n", g.title, a/b, sign, limit, word)
}
