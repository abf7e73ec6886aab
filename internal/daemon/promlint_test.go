package daemon

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// every gives each metric of a box one value, whatever the box is like.
type every struct{ *boxCollector }

func (e every) Collect(ch chan<- prometheus.Metric) {
	for _, s := range e.samples {
		ch <- prometheus.MustNewConstMetric(s.desc, s.kind, 1)
	}
	for _, l := range e.byLabel {
		ch <- prometheus.MustNewConstMetric(l.desc, l.kind, 1, "x")
	}
}

// The metrics keep to the conventions of Prometheus, and the dashboard and the
// alerts in configs/ name only what there is.
func TestMetricsKeepToConventions(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(every{newBoxCollector(nil)}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	known := map[string]bool{}
	for _, f := range families {
		known[f.GetName()] = true
	}
	name := regexp.MustCompile(`\b(avoqado_edge|go|process)_[a-z_]+`)
	for file, least := range map[string]int{"grafana.json": 25, "alerts.yaml": 10} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "configs", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(raw, new(map[string]any)); err != nil { // JSON is YAML
			t.Errorf("%s: %v", file, err)
		}
		used := map[string]bool{}
		for _, metric := range name.FindAllString(string(raw), -1) {
			used[metric] = true
			if !known[metric] {
				t.Errorf("%s: there is no metric %s", file, metric)
			}
		}
		if len(used) < least {
			t.Errorf("%s uses %d metrics", file, len(used))
		}
	}
}
