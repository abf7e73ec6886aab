//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/boxtest"
	_ "github.com/avoqado/avoqado-edge/internal/cli" // a cached result depends on all of the program
)

// TestQuick runs all of it with few events: that it measures, not what.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("drains a dozen backlogs")
	}
	if _, err := exec.LookPath("/usr/sbin/mosquitto"); err != nil {
		t.Skip("SKIPPED: mosquitto is not installed: run scripts/setup")
	}
	defer boxtest.RemoveBinary()
	var out bytes.Buffer
	if err := run(t.Context(), &out, []string{"-quick", "-dir", t.TempDir(), "-box", boxtest.Binary(t)}); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"box broker, 0 ms", "box backend gzip, 200 ms", "bridge default, 0 ms", "bridge unlimited, 200 ms", "live, 0 ms"} {
		if !regexp.MustCompile(`(?m)^ *` + want + `  +[1-9]\d*  `).Match(out.Bytes()) {
			t.Errorf("no figures of %s\n%s", want, &out)
		}
	}
	if n := strings.Count(strings.ToLower(out.String()), "reached"); n != len(goals())-1 { // the large backlog is not measured
		t.Errorf("%d verdicts of %d\n%s", n, len(goals())-1, &out)
	}
}

func TestSale(t *testing.T) {
	for _, n := range []int{1, 99_999} {
		e := sale(n)
		if len(e.Payload) != eventBytes || !json.Valid(e.Payload) {
			t.Errorf("%d bytes: %s", len(e.Payload), e.Payload)
		}
		var batch []map[string]any
		if err := json.Unmarshal(cloudEvent(n), &batch); err != nil || len(batch) != 1 || batch[0]["id"] != string(e.ID) {
			t.Errorf("%v: %s", err, cloudEvent(n))
		}
	}
}

func TestVerdict(t *testing.T) {
	runs := map[string][]figures{
		"a":                      {{"rate": 10}, {"rate": 1000}, {"rate": 50}},
		"bridge default, 0 ms":   {{"rate": 4, "cpu": 1}},
		"bridge unlimited, 0 ms": {{"rate": 10, "cpu": 2}},
	}
	if got := (goal{title: "t", a: "a", b: "bridge", figure: "rate", least: 5}).verdict(runs); got != "t\t5.00\t≥ 5.00\treached\n" {
		t.Error(got)
	}
	if got := (goal{title: "t", a: "a", b: "bridge", figure: "rate", most: 0.5}).verdict(runs); !strings.Contains(got, "NOT REACHED") {
		t.Error(got)
	}
	if v, ok := value(runs, "bridge", "cpu"); !ok || v != 1 {
		t.Error(v, ok)
	}
}
