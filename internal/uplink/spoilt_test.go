package uplink

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// A bit that the disk flips in what is noted of a parked event does not keep the
// event from the cloud for ever, nor what waits behind it: the journal has it.
func TestSpoiltEntryOfAParkedEvent(t *testing.T) {
	for name, spoil := range map[string][]string{
		"refused": {"order-1-1"}, "waits": {"order-1-3"}, "both": {"order-1-1", "order-1-3"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "journal")
			_, u, end := quietLife(t, dir)
			bad := about(t, u.journal, "order-1", 1)
			about(t, u.journal, "order-2", 2)
			waits := about(t, u.journal, "order-1", 3)
			refuseAt(t, u, bad)
			end()
			spoilMeta(t, dir, spoil...)

			j, u, end := quietLife(t, dir)
			list := u.Parked()
			if len(list) != 2 || u.Status().Parked != 2 || list[0].Event.Seq != bad || list[0].Behind != 0 || list[1].Event.Seq != waits || list[1].Behind != bad {
				t.Fatalf("parked %+v", list)
			}
			u.status.Synced = j.Stored()
			if _, err := u.Settle(t.Context(), bad, Retry, nil, ""); err != nil {
				t.Fatal(err)
			}
			end()

			_, u, end = quietLife(t, dir)
			defer end()
			events, err := u.journal.Read(waits, 100, 1<<20)
			if err != nil || len(events) != 2 || events[0].ID != "order-1-1" || events[1].ID != "order-1-3" {
				t.Errorf("sent again: %+v, %v", events, err)
			}
			if list := u.Parked(); len(list) != 0 {
				t.Errorf("parked %+v", list)
			}
		})
	}
}

// Where the journal has not got the event any more, what waits behind it may go.
func TestParkedEventOutlivesTheOneItWaitsFor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	_, u, end := quietLife(t, dir)
	bad := about(t, u.journal, "order-1", 1)
	waits := about(t, u.journal, "order-1", 2)
	refuseAt(t, u, bad)
	if err := u.notes.Put(ParkedSpace, map[string][]byte{parkedKey(bad): nil}); err != nil {
		t.Fatal(err)
	}
	end()
	j, u, end := quietLife(t, dir)
	defer end()
	if list := u.Parked(); len(list) != 1 || list[0].Behind != 0 || list[0].Reason != spoiltHolder {
		t.Errorf("parked %+v", list)
	}
	u.status.Synced = j.Stored()
	if _, err := u.Settle(t.Context(), waits, Retry, nil, ""); err != nil {
		t.Error(err)
	}
}

// quietLife is one run of a box without a broker on a journal that outlives it.
func quietLife(t *testing.T, dir string) (j *journal.Journal, u *Uplink, end func()) {
	t.Helper()
	j, end = runJournal(t, dir)
	return j, newUplink(t, j, "tcp://127.0.0.1:1", nil), end
}

// refuseAt has the back-end refuse an event, and everything behind it read.
func refuseAt(t *testing.T, u *Uplink, seq event.Seq) {
	t.Helper()
	if err := u.refuse(u.marks.Epoch(), []refusal{{Seq: position(seq), Reason: "no"}}); err != nil {
		t.Fatal(err)
	}
	events, err := u.journal.Read(seq, 100, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.parking.detain(events); err != nil {
		t.Fatal(err)
	}
	if err := u.journal.MoveCursor(cursorName, u.marks.Stored()); err != nil {
		t.Fatal(err)
	}
}

// spoilMeta flips bits where a text stands in meta.db.
func spoilMeta(t *testing.T, dir string, texts ...string) {
	t.Helper()
	meta := filepath.Join(dir, "meta.db")
	raw, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if !bytes.Contains(raw, []byte(text)) {
			t.Fatalf("no %s in meta.db", text)
		}
		raw = bytes.ReplaceAll(raw, []byte(text), []byte(strings.ToUpper(text)))
	}
	if err := os.WriteFile(meta, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}
