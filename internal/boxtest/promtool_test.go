package boxtest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/needs"
)

// promtool runs Prometheus' own judge of metrics and rules.
func promtool(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), needs.Program(t, "promtool"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestPromtoolMetrics has it read what a box that works says.
func TestPromtoolMetrics(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Confirm: "broker"})
	pay(t, box, 3, "c")
	Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, box.URL()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+box.Token(event.Admin, "a1", ""))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(raw, []byte("\navoqado_edge_events_accepted_total 3\n")) {
		t.Fatalf("%v, %s: %.300s", err, resp.Status, raw)
	}
	if out, err := promtool(t, raw, "check", "metrics"); err != nil || out != "" {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	bad := bytes.ReplaceAll(raw, []byte("events_accepted_total"), []byte("events_accepted"))
	if out, err := promtool(t, bad, "check", "metrics"); err == nil || !strings.Contains(out, "avoqado_edge_events_accepted counter metrics should have") {
		t.Errorf("it lets a wrong name pass: %v\n%s", err, out)
	}
}

// alertRule is one of configs/alerts.yaml.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alertRules(t *testing.T, path string) []alertRule {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var all []alertRule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Each alert comes for what it is for, once that has lasted, with what to do,
// and no other comes with it. A box that is well has none.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("seven hours of each fault take it ten seconds")
	}
	path := filepath.Join(RepositoryRoot(), "configs", "alerts.yaml")
	if out, err := promtool(t, nil, "check", "rules", path); err != nil || !strings.Contains(out, "rules found") {
		t.Fatalf("promtool check rules: %v\n%s", err, out)
	}
	const seven = "420m" // hours, in minutes
	const labels = `instance="b1",job="avoqado-edge"`
	series := func(name string) string {
		if open, ok := strings.CutSuffix(name, "}"); ok {
			return open + "," + labels + "}"
		}
		return name + "{" + labels + "}"
	}
	const twin = `avoqado_edge_uplink_failures_total{cause="client_id_takeover"}`
	healthy := map[string]string{
		"up": "1x420", "avoqado_edge_uplink_connected": "1x420", "avoqado_edge_backlog_oldest_age_seconds": "0x420",
		"avoqado_edge_journal_healthy": "1x420", "avoqado_edge_journal_stuck_seconds": "0x420", "avoqado_edge_journal_level": "0x420",
		"avoqado_edge_disk_free_bytes": "20000000000x420", "avoqado_edge_journal_lost_events_total": "0x420",
		"avoqado_edge_journal_quarantined_files": "0x420", "avoqado_edge_uplink_parked_events": "0x420", twin: "0x420",
		"avoqado_edge_uplink_rejected_total": "0x420", "avoqado_edge_clock_synchronized": "1x420",
		"avoqado_edge_sessions_behind": "0x420", "avoqado_edge_journal_disk_life_years": "8x420",
	}
	faults := map[string][2]string{ // alert → series and its values
		"EdgeDown":             {"up", "0x420"},
		"EdgeOffline":          {"avoqado_edge_uplink_connected", "0x420"},
		"EdgeBacklogOld":       {"avoqado_edge_backlog_oldest_age_seconds", "4000x420"},
		"EdgeJournalRefuses":   {"avoqado_edge_journal_healthy", "0x420"},
		"EdgeDiskHangs":        {"avoqado_edge_journal_stuck_seconds", "30x420"},
		"EdgeRoomShort":        {"avoqado_edge_journal_level", "2x420"},
		"EdgeDiskLow":          {"avoqado_edge_disk_free_bytes", "500000000x420"},
		"EdgeEventsLost":       {"avoqado_edge_journal_lost_events_total", "0x400 7x20"},
		"EdgeQuarantine":       {"avoqado_edge_journal_quarantined_files", "1x420"},
		"EdgeParked":           {"avoqado_edge_uplink_parked_events", "2x420"},
		"EdgeTwin":             {twin, "0x412 3x10"},
		"EdgeMessagesRejected": {"avoqado_edge_uplink_rejected_total", "0x400 1x20"},
		"EdgeClock":            {"avoqado_edge_clock_synchronized", "0x420"},
		"EdgeSessionsBehind":   {"avoqado_edge_sessions_behind", "5x420"},
		"EdgeDiskWorn":         {"avoqado_edge_journal_disk_life_years", "0.5x420"},
	}
	rules := alertRules(t, path)
	if len(rules) != len(faults) {
		t.Errorf("%d rules, %d faults", len(rules), len(faults))
	}
	type given struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	var tests []any
	add := func(broken string) {
		var input []given
		for name, values := range healthy {
			if faults[broken][0] == name {
				values = faults[broken][1]
			}
			input = append(input, given{series(name), values})
		}
		var wants []any
		for _, r := range rules {
			want := []any{}
			if r.Alert == broken {
				said := map[string]string{}
				for k, v := range r.Annotations {
					said[k] = strings.ReplaceAll(v, "{{ $labels.instance }}", "b1")
				}
				carries := map[string]string{"severity": r.Labels["severity"], "instance": "b1", "job": "avoqado-edge"}
				if faults[broken][0] == twin {
					carries["cause"] = "client_id_takeover"
				}
				want = append(want, map[string]any{"exp_labels": carries, "exp_annotations": said})
				if d, err := time.ParseDuration(r.For); err != nil || said["remedy"] == "" || said["summary"] == "" {
					t.Errorf("%s: for %q %v, says %q", r.Alert, r.For, err, said)
				} else if d > 0 { // not before it has lasted
					wants = append(wants, map[string]any{"eval_time": (d - time.Minute).String(), "alertname": r.Alert, "exp_alerts": []any{}})
				}
			}
			wants = append(wants, map[string]any{"eval_time": seven, "alertname": r.Alert, "exp_alerts": want})
		}
		tests = append(tests, map[string]any{"interval": "1m", "input_series": input, "alert_rule_test": wants})
	}
	add("") // nothing is broken
	for _, r := range rules {
		if faults[r.Alert][0] == "" {
			t.Errorf("nothing is known that %s is for", r.Alert)
		}
		add(r.Alert)
	}
	raw, err := json.Marshal(map[string]any{"rule_files": []string{path}, "evaluation_interval": "1m", "tests": tests}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "alerts_test.yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := promtool(t, nil, "test", "rules", file); err != nil || !strings.Contains(out, "SUCCESS") {
		t.Errorf("promtool test rules: %v\n%.3000s", err, out)
	}
}

// What the dashboard asks for is PromQL.
func TestDashboardExpressions(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(RepositoryRoot(), "configs", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	var rules []any
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "5m", "$box", "b1").Replace(target.Expr)
			rules = append(rules, map[string]string{"record": "a:b:c", "expr": expr})
		}
	}
	check := func(rules []any) (string, error) {
		raw, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "board", "rules": rules}}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "board.yaml")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return promtool(t, nil, "check", "rules", "--lint=none", file)
	}
	if out, err := check(rules); err != nil || len(rules) < 25 {
		t.Errorf("%d expressions: %v\n%s", len(rules), err, out)
	}
	if out, err := check(append(rules, map[string]string{"record": "a:b:d", "expr": "rate(x[5m]"})); err == nil {
		t.Errorf("it lets half an expression pass:\n%s", out)
	}
}
