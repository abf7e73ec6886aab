//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// row is one line of the table. A goal is about the box's figure as a multiple
// of Node's: at least, if more is better, else at most.
type row struct {
	key, title, format string
	goal               float64 // 0: none
	more               bool
}

func rows() []row {
	list := []row{
		{key: "connect 500", title: "connect, to 500: clients/s", format: "%.0f", more: true},
		{key: "connect cpu 500", title: "  server CPU µs/client", format: "%.0f"},
		{key: "connect 2000", title: "connect, to 2,000: clients/s", format: "%.0f", more: true},
		{key: "rss 500", title: "RSS per idle connection at 500: KiB", format: "%.1f", goal: 1},
		{key: "rss 2000", title: "RSS per idle connection at 2,000: KiB", format: "%.1f", goal: 1},
		{key: "ack/s 1", title: "answers to 1 client: /s", format: "%.0f", more: true},
		{key: "ack p50 1", title: "  p50 ms", format: "%.3f"},
		{key: "ack p99 1", title: "  p99 ms", format: "%.3f"},
		{key: "ack/s 100", title: "answers to 100 clients: /s", format: "%.0f", goal: 1.5, more: true},
		{key: "ack cpu 100", title: "  server CPU µs/answer", format: "%.1f"},
		{key: "ack p99 100", title: "  p99 ms", format: "%.2f"},
	}
	for _, n := range []int{100, 500, 2000} {
		list = append(list,
			row{key: key("load/s", n), title: fmt.Sprintf("fan-out to %d, under load: deliveries/s", n), format: "%.0f", more: true},
			row{key: key("load cpu", n), title: "  server CPU µs/delivery", format: "%.2f", goal: 0.35},
			row{key: key("load busy", n), title: "  server's core busy: %", format: "%.0f"},
			row{key: key("load own", n), title: "  load's core busy: %", format: "%.0f"},
			row{key: key("load p50", n), title: "  p50 ms", format: "%.1f"},
			row{key: key("load p99", n), title: "  p99 ms", format: "%.1f"},
			row{key: key("modest cpu", n), title: fmt.Sprintf("fan-out to %d, %d/s: server CPU µs/delivery", n, modest), format: "%.2f", goal: 0.7},
			row{key: key("modest p50", n), title: "  p50 ms", format: "%.2f"},
			row{key: key("modest p99", n), title: "  p99 ms", format: "%.2f"},
		)
	}
	return append(list,
		row{key: "durable/s", title: "stored, answered, told to 50, under load: events/s", format: "%.0f", goal: 3, more: true},
		row{key: "durable cpu", title: "  server CPU µs/event", format: "%.0f"},
		row{key: "durable load p99", title: "  answer p99 ms", format: "%.2f"},
		row{key: "durable p50", title: fmt.Sprintf("the same at %d/s: answer p50 ms", steady), format: "%.2f"},
		row{key: "durable p99", title: "  answer p99 ms", format: "%.2f", goal: 0.5},
		row{key: "durable told p99", title: "  told p99 ms", format: "%.2f"},
	)
}

func printTable(out io.Writer, chosen []peer, runs map[string][]figures) error {
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t")
	for _, p := range chosen {
		fmt.Fprintf(t, "%s\t", p.name)
	}
	fmt.Fprintln(t, "box of node\tgoal\t\t")
	for _, r := range rows() {
		fmt.Fprintf(t, "%s\t", r.title)
		for _, p := range chosen {
			if v, ok := median(runs[p.name], r.key); ok {
				fmt.Fprintf(t, r.format+"\t", v)
			} else {
				fmt.Fprint(t, "\t")
			}
		}
		fmt.Fprintln(t, r.verdict(runs))
	}
	return t.Flush()
}

// verdict is the box beside Node, the goal, and whether it is met.
func (r row) verdict(runs map[string][]figures) string {
	box, ok := median(runs[boxName], r.key)
	node, other := median(runs[nodeName], r.key)
	if !ok || !other || node == 0 {
		return "\t\t\t"
	}
	ratio := box / node
	if r.goal == 0 {
		return fmt.Sprintf("%.2f\t\t\t", ratio)
	}
	sign, met := "≤", ratio <= r.goal
	if r.more {
		sign, met = "≥", ratio >= r.goal
	}
	word := "MISSED"
	if met {
		word = "met"
	}
	return fmt.Sprintf("%.2f\t%s %.2f\t%s\t", ratio, sign, r.goal, word)
}

func median(runs []figures, key string) (float64, bool) {
	var values []float64
	for _, f := range runs {
		if v, ok := f[key]; ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	return values[len(values)/2], true
}
