package boxtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestParkedThroughTheCommandLine has the reference back-end of the program
// refuse the deletions of orders, and settles them as an operator does: one is
// sent again, one edited, one dropped. What is about the same order waits, the
// rest does not, over a kill of the box.
func TestParkedThroughTheCommandLine(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	dir := t.TempDir()
	file := filepath.Join(dir, "ledger.db")
	listen := func(more ...string) (stop func()) {
		t.Helper()
		return listenTo(t, broker, file, more...)
	}
	stop := listen("--refuse-type", "order_deleted")

	say := func(kind, order, more string) uint64 {
		t.Helper()
		return sayOrder(t, box, kind, order, more)
	}
	events := func(args ...string) string {
		t.Helper()
		return decide(t, box, args...)
	}
	synced := func(seq uint64) {
		t.Helper()
		Eventually(t, 30*time.Second, "the cloud has it", func() bool { return box.Status().Journal.SyncedThrough >= seq })
	}

	refused := map[string]uint64{}
	for _, order := range []string{"retried", "edited", "dropped"} {
		say("order_created", order, "")
		refused[order] = say("order_deleted", order, `,"by":"hand"`)
	}
	synced(refused["dropped"])
	behind := say("order_updated", "retried", "")
	synced(say("order_created", "other", ""))

	box.Kill()
	box.Start()
	list := events("list", "--parked")
	if n := strings.Count(list, "refused: "); n != 3 || !strings.Contains(list, fmt.Sprintf("waits for %d", refused["retried"])) {
		t.Fatalf("parked:\n%s", list)
	}
	if all := events("list"); strings.Count(all, "✗") != 4 || strings.Count(all, "✓") != 4 {
		t.Errorf("what is parked is not with the cloud:\n%s", all)
	}
	if st := box.Status().Uplink; st.Parked != 4 {
		t.Errorf("status says %d parked", st.Parked)
	}

	// Who waits cannot be settled alone.
	if _, stderr, code := box.Command("events", "drop", fmt.Sprint(behind)); code != 1 || !strings.Contains(stderr, "waits for another") {
		t.Errorf("%d %s", code, stderr)
	}
	stop()
	stop = listen() // it has been mended
	mended := filepath.Join(dir, "mended.json")
	if err := os.WriteFile(mended, []byte(`{"orderId":"edited","venueId":"`+Venue+`","by":"an operator"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	events("retry", fmt.Sprint(refused["retried"]), "--note", "back-end mended")
	events("edit", fmt.Sprint(refused["edited"]), "--payload", mended)
	events("drop", fmt.Sprint(refused["dropped"]), "--note", "booked by hand")
	if list = events("list", "--parked"); list != "" {
		t.Errorf("still parked:\n%s", list)
	}
	synced(box.Stored())
	stop()

	record := events("list", "--settled", "--json", "--payload")
	for i, want := range []string{
		`"decision":"retry","note":"back-end mended"`, `"decision":"edit"`, `"decision":"drop","note":"booked by hand"`,
	} {
		lines := strings.Split(record, "\n")
		if i >= len(lines) || !strings.Contains(lines[i], want) || !strings.Contains(lines[i], `"by":"hand"`) {
			t.Errorf("the record misses %s:\n%s", want, record)
		}
	}

	// Nothing that was not confirmed has a tick.
	for name, want := range map[string]string{"dropped": "dropped by an operator", "retried": "sent again from another place"} {
		if said := events("show", fmt.Sprint(refused[name])); !strings.Contains(said, want) {
			t.Errorf("of %s it says:\n%s", name, said)
		}
	}
	all := events("list")
	for name, mark := range map[string]string{"dropped": "✗", "retried": "↷", "edited": "↷"} {
		if want := fmt.Sprintf(" %d %s ", refused[name], mark); !strings.Contains(all, want) {
			t.Errorf("no %q in:\n%s", want, all)
		}
	}

	// Once each, in order; nothing of what was dropped.
	stdout, stderr, code := box.Command("cloud", "effects", file)
	if code != 0 {
		t.Fatalf("cloud effects ends with %d: %s", code, stderr)
	}
	var took []string
	for line := range strings.Lines(stdout) {
		words := strings.Fields(line) // source, seq, type, subject, payload
		if len(words) < 5 {
			t.Fatalf("cloud effects prints %q", line)
		}
		who := ""
		if _, by, said := strings.Cut(line, `"by":"`); said {
			who = by[:strings.Index(by, `"`)]
		}
		took = append(took, strings.TrimSpace(words[2]+" "+words[3]+" "+who))
	}
	want := "order_created retried, order_created edited, order_created dropped, order_created other, " +
		"order_deleted retried hand, order_updated retried, order_deleted edited an operator"
	if got := strings.Join(took, ", "); got != want {
		t.Errorf("effects %s\nwant    %s", got, want)
	}
}

// listenTo starts the reference back-end of the program and returns when it
// listens. stop ends it in order.
func listenTo(t *testing.T, broker *Mosquitto, file string, more ...string) (stop func()) {
	t.Helper()
	said := &output{}
	cmd := exec.Command(Binary(t), append([]string{"cloud", "listen", "--broker", broker.URL(), "--venue", Venue, "--store", file}, more...)...)
	cmd.Stderr = said
	p := start(t, cmd)
	Eventually(t, 20*time.Second, "the back-end listens", func() bool { return strings.Contains(said.String(), "back-end online") })
	return func() {
		t.Helper()
		p.signal(syscall.SIGTERM)
		if !p.ended(10*time.Second) || p.err != nil {
			t.Fatalf("the back-end ends with %v\n%s", p.err, said)
		}
	}
}

// sayOrder publishes an event about an order, with more members, and returns its
// place.
func sayOrder(t *testing.T, box *Box, kind, order, more string) uint64 {
	t.Helper()
	status, answer := box.Do("POST", "/api/v1/events", box.Token(event.Manager, "staff_1", ""),
		fmt.Sprintf(`{"event":%q,"payload":{"orderId":%q,"venueId":%q%s}}`, kind, order, Venue, more))
	var ack struct{ Seq uint64 }
	if err := json.Unmarshal([]byte(answer), &ack); err != nil || ack.Seq == 0 {
		t.Fatalf("%d %s", status, answer)
	}
	return ack.Seq
}

// decide runs a command about events, which must succeed.
func decide(t *testing.T, box *Box, args ...string) string {
	t.Helper()
	stdout, stderr, code := box.Command(append([]string{"events"}, args...)...)
	if code != 0 {
		t.Fatalf("events %v ends with %d: %s", args, code, stderr)
	}
	return stdout
}

// TestTooLargeForTheBroker has a box with the settings of a venue meet a broker
// that takes 20 kB: an event that is larger is parked, the rest gets on, and an
// operator makes it smaller.
func TestTooLargeForTheBroker(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes six links, or as many silences")
	}
	for name, limit := range map[string][]string{
		"the broker ends the link": {"max_packet_size 20000"},
		"the broker lets it fall":  {"message_size_limit 20000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := StartMosquitto(t, MosquittoConfig{Extra: limit})
			box := StartBox(t, BoxConfig{Broker: broker.URL()})
			file := filepath.Join(t.TempDir(), "ledger.db")
			stop := listenTo(t, broker, file)
			first := sayOrder(t, box, "order_created", "small", "")
			Eventually(t, 30*time.Second, "the line is good", func() bool { return box.Status().Journal.SyncedThrough >= first })

			began := time.Now()
			bad := sayOrder(t, box, "order_updated", "large", `,"notes":"`+strings.Repeat("x", 60_000)+`"`)
			behind := sayOrder(t, box, "order_updated", "large", `,"by":"hand"`)
			last := sayOrder(t, box, "order_updated", "small", "")
			Eventually(t, 4*time.Minute, "the line gets on", func() bool { return box.Status().Journal.SyncedThrough >= last })
			t.Logf("after %s", time.Since(began).Round(time.Second))
			list := decide(t, box, "list", "--parked")
			if !strings.Contains(list, "refused: too large for the broker: ") || !strings.Contains(list, fmt.Sprintf("waits for %d", bad)) {
				t.Fatalf("parked:\n%s", list)
			}
			if st := box.Status().Uplink; st.Parked != 2 {
				t.Errorf("status says %d parked", st.Parked)
			}

			smaller := filepath.Join(t.TempDir(), "smaller.json")
			if err := os.WriteFile(smaller, []byte(`{"orderId":"large","venueId":"`+Venue+`","notes":"cut short"}`), 0o600); err != nil {
				t.Fatal(err)
			}
			decide(t, box, "edit", fmt.Sprint(bad), "--payload", smaller)
			Eventually(t, 30*time.Second, "all is there", func() bool { return box.Status().Journal.SyncedThrough >= behind+3 })
			stop()
			stdout, stderr, code := box.Command("cloud", "effects", file)
			lines := strings.Split(strings.TrimSpace(stdout), "\n")
			if code != 0 || len(lines) != 4 || !strings.Contains(lines[2], "cut short") || !strings.Contains(lines[3], `"by":"hand"`) {
				t.Errorf("effects, %d %s:\n%s", code, stderr, stdout)
			}
		})
	}
}
