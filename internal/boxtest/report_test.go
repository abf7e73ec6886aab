package boxtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/outages"
)

// TestReportIsOnePage prints the report of a bad evening, with all the terminals
// of a large venue, in both languages: one sheet of paper each, good to read on
// a phone, too.
func TestReportIsOnePage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("some seconds in a browser")
	}
	b := StartBrowser(t)
	o := badEvening()
	for language, see := range map[outages.Language]string{
		outages.Spanish: "Interrupción 7.*Internet.*Qué hacer.*Cobro hecho.*184250.50.*Terminal.*T19.*15 más", outages.English: "Outage 7.*Internet.*What to do.*Payment done.*184250.50.*Terminal.*T19.*15 more",
	} {
		var page bytes.Buffer
		r := outages.Report{Outage: o, Venue: "Fonda San Ángel", Box: "box-0123456789ab", Now: o.Synced.Add(time.Hour), Zone: time.UTC, In: language}
		if err := r.HTML(&page); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "report.html")
		if err := os.WriteFile(file, page.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		b.Open("file://"+file, string(language), "light", 360)
		b.See("body", see, shown)
		b.Good("report-" + string(language))
		var sheets int
		if b.take(step{Do: "pages"}, &sheets); sheets != 1 {
			t.Errorf("in %s it takes %d sheets", language, sheets)
		}
	}
}

func badEvening() outages.Outage {
	began := time.Date(2026, 11, 27, 20, 14, 7, 0, time.UTC)
	o := outages.Outage{
		ID: 7, Start: began, End: began.Add(2*time.Hour + 3*time.Minute), Synced: began.Add(2*time.Hour + 4*time.Minute),
		Cause: "no_internet", Place: outages.PlaceOf("no_internet"), Broker: "mqtt.example.com:8883", After: 120, Through: 1820,
		Evidence: "the router 192.168.1.254 answers, and neither name servers nor a broker's last address do", Remedy: "Restart the router.",
		Held: outages.Held{Events: 1700, Bytes: 512_000, Classes: map[string]uint64{"money": 620, "orders": 900, "service": 150, "alerts": 30}},
		Late: outages.Late{Events: 1700, Classes: map[string]uint64{"money": 620}, LongestMs: (2 * time.Hour).Milliseconds()},
	}
	for _, kind := range []string{"payment_initiated", "payment_completed", "payment_failed"} {
		o.Held.Money = append(o.Held.Money, outages.Money{Kind: kind, Currency: "MXN", Events: 300, Amount: "184250.50"}, outages.Money{Kind: kind, Currency: "USD", Events: 10, Amount: "512.00", Unreadable: 1})
	}
	for i, cause := range []string{"lost", "no_router", "no_internet", "captive_portal", "dns", "no_internet", "tls", "no_answer", "broker_down", "no_internet"} {
		o.Causes = append(o.Causes, outages.Stretch{From: began.Add(time.Duration(i) * 17 * time.Minute), Cause: cause, Evidence: o.Evidence, Remedy: o.Remedy})
	}
	for i := range 35 {
		o.Terminals = append(o.Terminals, outages.Terminal{ID: fmt.Sprintf("AVQD-T%d", i), Events: uint64(120 - i), Money: uint64(40 - i), First: began.Add(time.Duration(i) * time.Minute)})
	}
	return o
}
