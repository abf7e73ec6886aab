package boxtest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killed runs a back-end again and again, on the same file, and kills it at
// random moments: so often, and as long as there is work.
func killed(t *testing.T, times int, longest time.Duration, command func() *exec.Cmd, busy func() bool) {
	t.Helper()
	seed := rand.Uint64()
	moments := rand.New(rand.NewPCG(seed, 1))
	t.Logf("moments of seed %d", seed)
	for n := 0; n < times || busy(); n++ {
		p := start(t, command())
		// Most moments are while it works, some while it starts.
		if p.ended(time.Duration(moments.Int64N(int64(longest)))) {
			t.Fatalf("the back-end ended by itself: %v", p.err)
		}
		p.signal(syscall.SIGKILL)
		<-p.done
	}
}

// TestListenKilled kills the reference back-end of the program while a box
// sells. In its file each event is once, in order.
func TestListenKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills a process twenty times")
	}
	broker := StartMosquitto(t, MosquittoConfig{Extra: []string{"max_queued_messages 100000"}})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	dir := t.TempDir()
	file := filepath.Join(dir, "ledger.db")
	printed, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	log := &output{}
	listen := func() *exec.Cmd {
		cmd := exec.Command(Binary(t), "cloud", "listen", "--broker", broker.URL(), "--venue", Venue, "--store", file, "--json", "--refuse-type", "order_deleted")
		cmd.Stdout, cmd.Stderr = printed, log
		return cmd
	}
	const events = 12_000
	sold := sell(t, box, "killed", events, func() {
		killed(t, 22, 400*time.Millisecond, listen, func() bool { return box.Stored() < events })
	})
	cmd, said := listen(), &output{}
	cmd.Stderr = said
	last := start(t, cmd)
	Eventually(t, 20*time.Second, "the back-end listens", func() bool { return strings.Contains(said.String(), "back-end online") })
	if !poll(2*time.Minute, func() bool { return box.Status().Journal.SyncedThrough >= box.Stored() }) {
		t.Fatalf("the box does not know that the back-end has everything: %+v\n%s", box.Status().Journal, log)
	}
	last.signal(syscall.SIGTERM)
	if !last.ended(10*time.Second) || last.err != nil {
		t.Errorf("the back-end ends with %v\n%s", last.err, log)
	}

	stdout, stderr, code := box.Command("cloud", "effects", file, "--json")
	if code != 0 || !strings.Contains(stderr, fmt.Sprintf("committed through %d, 0 beyond it", box.Stored())) {
		t.Fatalf("cloud effects ends with %d: %s", code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if len(lines) != len(sold) {
		t.Errorf("%d effects of %d events", len(lines), len(sold))
	}
	type effect struct {
		ID, Subject string
		Seq         uint64
		Live        bool
	}
	effects, before, ofSubject := map[string]int{}, uint64(0), map[string]uint64{}
	for _, line := range lines {
		var e effect
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		effects[e.ID]++
		if e.Seq <= ofSubject[e.Subject] {
			t.Errorf("effect of %d behind that of %d, both of %s", e.Seq, ofSubject[e.Subject], e.Subject)
		}
		ofSubject[e.Subject] = e.Seq
		if !e.Live && e.Seq <= before {
			t.Errorf("effect of %d behind that of %d", e.Seq, before)
		}
		if !e.Live {
			before = e.Seq
		}
	}
	for _, a := range sold {
		if effects[string(a.ID)] != 1 {
			t.Errorf("event %d has had %d effects", a.Seq, effects[string(a.ID)])
		}
	}

	// What it printed misses lines, and repeats none.
	raw, err := os.ReadFile(printed.Name())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for line := range strings.Lines(string(raw)) {
		var e effect
		if json.Unmarshal([]byte(line), &e) != nil {
			continue // cut short by a kill
		}
		if seen[e.Seq] {
			t.Errorf("the effect of %d was printed twice", e.Seq)
		}
		seen[e.Seq] = true
	}
	t.Logf("%d effects, %d of them printed", len(lines), len(seen))
}
