package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// odd returns events that JSON has its troubles with, besides plain ones.
func odd() []*event.Event {
	full := sample(1)
	full.Actor, full.Role, full.Terminal, full.CorrelationID, full.Sender = "a<&>", event.Waiter, "AVQD-1", "c}}", "sid"
	full.Expires, full.Digest = day.Add(time.Hour), 1<<63+1
	full.Clock = event.Clock{Error: 7 * time.Millisecond}
	full.Audience = event.Audience{
		Venue: true, Tables: []string{"1", ""}, Orders: []string{"2"}, Roles: []event.Role{"R"},
		Users: []string{"3"}, Terminals: []string{"4", "5"}, Except: []event.Role{event.Viewer},
	}
	list := []*event.Event{full, {Payload: []byte{}}, {Audience: event.Audience{Users: []string{"last}"}}, Payload: []byte("{}")}}
	for i, payload := range []string{
		"{\n  \"a\": 1.50\r\n}", ` {"a":1}`, "{\"a\":\"\u2028<script>&\"}", `{"a":9007199254740993, "a":1e3}`,
		"{\"a\":\x00\xff}", `{"a":`, `"text"`, "{\"a\":\"\xff\"}",
	} {
		e := sample(i + 2)
		e.Payload = []byte(payload)
		list = append(list, e)
	}
	for i, change := range []func(*event.Event){
		func(e *event.Event) { e.Subject = "\xff" },
		func(e *event.Event) { e.Audience.Except = []event.Role{"\xfe"} },
		func(e *event.Event) { e.Audience.Users = []string{"\xfe"} },
		func(e *event.Event) { e.Class = 77 },
		func(e *event.Event) { e.Origin = 77 },
		func(e *event.Event) { e.Time = time.UnixMilli(1 << 52).UTC() },
		func(e *event.Event) { e.Subject = "a\nb\u2029\\\"" },
		func(e *event.Event) {
			e.Clock = event.Clock{Boot: "0190a5b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b", Up: 90 * time.Second}
		},
	} {
		e := sample(i + 20)
		change(e)
		list = append(list, e)
	}
	return list
}

func backUp(t *testing.T, j *Journal) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := j.Backup(t.Context(), &file, Source{Box: "b1", Venue: "v1", Version: "test"}); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func restored(t *testing.T, file []byte, o Options) (dir string, r Restored) {
	t.Helper()
	root := memory(t)
	t.Cleanup(func() { os.RemoveAll(root) })
	dir = filepath.Join(root, "journal")
	r, err := Restore(t.Context(), bytes.NewReader(file), dir, o, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return dir, r
}

func TestRestoredEqualsBackedUp(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	for _, e := range odd() {
		if _, err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	b.fill(100, 1100)
	first, err := b.Append(t.Context(), keyed(1, "k/1", 7))
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	// A history of two epochs.
	j, err := Open(b.dir, small)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.beginEpoch(errors.New("as a test wants it")); err != nil {
		t.Fatal(err)
	}
	j.writer.leave()
	b = run(t, j)
	b.fill(2000, 2100)
	state := map[string][]byte{"": nil, "a": {0, 255}, "empty": {}, "\xff": []byte("x")}
	delete(state, "")
	if err := errors.Join(b.MoveCursor("uplink", 500), b.Put("lan", state), b.Put("none", nil)); err != nil {
		t.Fatal(err)
	}
	want := b.all()
	file := backUp(t, b.Journal)

	dir, r := restored(t, file, small)
	if r.Events != uint64(len(want)) || r.Box != "b1" || r.Venue != "v1" || len(r.Lost) != 0 || r.NewEpoch <= b.Epoch() {
		t.Errorf("restored %+v", r)
	}
	report, err := Check(dir)
	if err != nil || !report.OK() || report.Events != uint64(len(want)) || len(report.Segments) < 4 {
		t.Errorf("check: %+v, %v", report, err)
	}
	again := start(t, dir, small)
	if got := again.all(); !reflect.DeepEqual(got, want) {
		for i := range want {
			if !reflect.DeepEqual(got[i], want[i]) {
				t.Fatalf("event is\n%+v, was\n%+v", got[i], want[i])
			}
		}
	}
	entries, err := again.All("lan")
	if err != nil || !reflect.DeepEqual(entries, state) {
		t.Errorf("state %v, %v", entries, err)
	}
	if at := again.Cursor("uplink"); at != 500 || again.Epoch() != r.NewEpoch || again.First() != b.First() || again.Stored() != b.Stored() {
		t.Errorf("cursor %d, epoch %s, %d to %d", at, again.Epoch(), again.First(), again.Stored())
	}
	again.wantDuplicate("k/1", 7, first)
	if next := again.append(1); next.Seq != b.Stored()+1 || next.Epoch != r.NewEpoch {
		t.Errorf("next event %+v", next)
	}
	if damages := again.Stats().Damages; damages != 0 {
		t.Errorf("%d findings of damage", damages)
	}
	// It stays what it is, and can be backed up again.
	again = again.restart(small)
	again.wantDuplicate("k/1", 7, first)
	if again.Epoch() != r.NewEpoch {
		t.Error("another epoch begins")
	}
	dir, r = restored(t, backUp(t, again.Journal), Options{})
	third := start(t, dir, Options{})
	if got := third.all(); !reflect.DeepEqual(got, again.all()) || r.NewEpoch <= again.Epoch() {
		t.Error("the second generation differs")
	}
}

// TestBackupHoldsTheState: as many events as wait for an operator at most, as
// JSON in JSON, do not make a line that is refused when it is read again.
func TestBackupHoldsTheState(t *testing.T) {
	if parked := 1000 * event.MaxPayload / 9 * 16; maxBackupLine < parked*5/4 {
		t.Errorf("a line of %d bytes is read, of %d may be written", maxBackupLine, parked)
	}
}

// TestBackupOfOneMoment: an event that is noted in the state because the cloud
// does not take it, and then passed, would be lost with a cursor that is newer
// than the state.
func TestBackupOfOneMoment(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	const n = 2500
	b.fill(1, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			if err := errors.Join(b.Put("s", map[string][]byte{"noted": seqBytes(event.Seq(i + 1))}), b.MoveCursor("c", event.Seq(i+1))); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for looks := 0; ; looks++ {
		select {
		case <-done:
			return
		default:
		}
		entries, cursors, err := b.meta.state()
		if err != nil {
			t.Fatal(err)
		}
		if at := cursors["c"]; at > 0 && at > getSeq(entries["s"][0].Value) {
			t.Fatalf("the cursor is at %d and the state at %d, look %d", at, getSeq(entries["s"][0].Value), looks)
		}
	}
}

// TestRestoredKeepsToItsCap: a box that was full is full again, and takes events
// as soon as the cloud has a part of them, not only once it has them all.
func TestRestoredKeepsToItsCap(t *testing.T) {
	const most = 640
	b := start(t, newJournal(t, small), small)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	b.fill(1, most)
	o := Options{MaxEvents: most, Now: small.Now}
	dir, _ := restored(t, backUp(t, b.Journal), o)
	again := start(t, dir, o)
	if again.Stored() != most || again.offer() != 0 {
		t.Fatalf("%d events, %s", again.Stored(), again.Level())
	}
	if err := again.MoveCursor("uplink", most/2); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		_, err := again.Append(t.Context(), classed(1, event.Service))
		return err == nil
	})
}

// TestRestoredIsTrimmedInTime: what is restored is as old as it was.
func TestRestoredIsTrimmedInTime(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 1500)
	if err := b.MoveCursor("uplink", 1500); err != nil {
		t.Fatal(err)
	}
	now := day.Add(30 * time.Minute)
	o := Options{SegmentBytes: small.SegmentBytes, RetainFor: time.Hour, Now: func() time.Time { return now }}
	dir, _ := restored(t, backUp(t, b.Journal), o)
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if n, err := j.Trim(); err != nil || n != 0 {
		t.Errorf("trimmed %d segments too early, %v", n, err)
	}
	now = now.Add(time.Hour)
	if n, err := j.Trim(); err != nil || n < 3 {
		t.Errorf("trimmed %d segments, %v", n, err)
	}
}

// TestBulkTellsOfAFailedWrite: a batch that is not on disk is not passed over.
func TestBulkTellsOfAFailedWrite(t *testing.T) {
	s, err := createSegment(t.TempDir(), 1, event.NewEpoch(""), Options{}.withDefaults().mapped(), &pool{}, &counters{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.kill(errTrimmed)
	record, err := encode(sample(1))
	if err != nil {
		t.Fatal(err)
	}
	stamp(record, 1)
	b := newBulk(s, batchBytes)
	b.add(1, record)
	(&box{t: t}).swap(s.file, func() (int, error) { return syscall.Open(s.path, syscall.O_RDONLY, 0) })
	if err := b.flush(); err == nil {
		t.Error("written on a broken disk")
	}
}

func TestReaderReadsAStoppedJournal(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 700)
	if err := errors.Join(b.MoveCursor("uplink", 3), b.Put("lan", map[string][]byte{"a": {1}})); err != nil {
		t.Fatal(err)
	}
	_, err := OpenReader(b.dir)
	if _, locked := errors.AsType[*LockedError](err); !locked {
		t.Fatalf("opened beside a running box: %v", err)
	}
	stats := b.Stats()
	var online bytes.Buffer
	if err := b.Export(t.Context(), &online, Selection{After: 650}); err != nil {
		t.Fatal(err)
	}
	b.stop()
	before := dirContent(t, b.dir)
	r, err := OpenReader(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	got := r.Stats()
	if got.Stored != 700 || got.First != 1 || got.Epoch != stats.Epoch || got.Segments != stats.Segments ||
		got.Bytes != stats.Bytes || !reflect.DeepEqual(got.Cursors, stats.Cursors) {
		t.Errorf("stats %+v, of the running box %+v", got, stats)
	}
	var offline, file bytes.Buffer
	var most uint64
	err = errors.Join(
		r.Export(t.Context(), &offline, Selection{After: 650}, nil),
		r.Backup(t.Context(), &file, Source{}, func(done, total uint64) {
			if most = max(most, done); total != 700 || done > total {
				t.Errorf("progress %d of %d", done, total)
			}
		}), r.Close())
	if err != nil || most != 700 {
		t.Fatal(err, most)
	}
	if offline.String() != online.String() || strings.Count(offline.String(), "\n") != 50 {
		t.Errorf("exports differ, or have %d lines", strings.Count(offline.String(), "\n"))
	}
	if after := dirContent(t, b.dir); !reflect.DeepEqual(before, after) {
		t.Error("the reader has changed something")
	}
	dir, done := restored(t, file.Bytes(), small)
	again := start(t, dir, small)
	again.wantSamples(again.all(), 1, 700)
	if done.Newest != 700 || again.Cursor("uplink") != 3 {
		t.Errorf("%+v", done)
	}
	if _, err := OpenReader(t.TempDir()); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
}

func dirContent(t *testing.T, dir string) map[string]string {
	t.Helper()
	content := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		content[e.Name()] = string(raw)
	}
	return content
}

func TestExport(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	list := odd()
	for _, e := range list {
		if _, err := b.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	order := sample(50)
	order.Kind = event.OrderCreated
	if _, err := b.Append(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	if err := b.Export(t.Context(), &all, Selection{}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(all.String(), "\n"), "\n")
	if len(lines) != len(list)+1 {
		t.Fatalf("%d lines for %d events", len(lines), len(list)+1)
	}
	for i, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
		payload := append(list, order)[i].Payload
		if json.Valid(payload) {
			if want := strings.NewReplacer("\n", " ", "\r", " ").Replace(string(payload)); !strings.HasSuffix(line, `,"payload":`+want+"}") {
				t.Errorf("payload %q became %s", payload, line)
			}
		} else if !strings.Contains(line, `,"payloadBase64":"`) {
			t.Errorf("payload %q became %s", payload, line)
		}
	}
	var some bytes.Buffer
	if err := b.Export(t.Context(), &some, Selection{After: 3, Kind: event.OrderCreated}); err != nil {
		t.Fatal(err)
	}
	if some.String() != lines[len(lines)-1]+"\n" {
		t.Errorf("selected %s", some.String())
	}
	if err := b.Export(t.Context(), &some, Selection{After: 1 << 40}); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Export(ctx, io.Discard, Selection{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// unzip and rezip let a test change what a backup says.
func unzip(t *testing.T, file []byte) string {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func rezip(text string) []byte {
	var file bytes.Buffer
	zip := gzip.NewWriter(&file)
	_, _ = zip.Write([]byte(text))
	_ = zip.Close()
	return file.Bytes()
}

// resum gives changed lines checksums that are right, but not the last one's
// digest.
func resum(text string) string {
	var out strings.Builder
	var crc uint32
	for line := range strings.Lines(text) {
		body := line[:len(line)-1-crcSize]
		crc = crc32.Update(crc, castagnoli, []byte(body))
		fmt.Fprintf(&out, "%s,\"crc\":\"%08x\"}\n", body, crc)
	}
	return out.String()
}

func TestDamagedBackupIsRefused(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 300)
	file := backUp(t, b.Journal)
	text := unzip(t, file)
	if text != resum(text) {
		t.Fatal("the test sums differently")
	}
	lines := strings.SplitAfter(text, "\n")
	last := len(lines) - 2
	swapped := strings.Join(append(append(append([]string{}, lines[:5]...), lines[6], lines[5]), lines[7:]...), "")
	cases := map[string][]byte{
		"empty":                 nil,
		"no gzip":               []byte(text),
		"other gzip":            rezip("hello\n"),
		"something behind":      append(bytes.Clone(file), 'x'),
		"twice":                 append(bytes.Clone(file), file...),
		"a line behind":         rezip(text + lines[1]),
		"no end":                rezip(strings.Join(lines[:last], "")),
		"no beginning":          rezip(strings.Join(lines[1:], "")),
		"a line gone":           rezip(strings.Join(append(lines[:3:3], lines[4:]...), "")),
		"lines swapped":         rezip(swapped),
		"lines swapped, summed": rezip(resum(swapped)),
		"a payload changed":     rezip(strings.Replace(text, "120.50", "120.51", 1)),
		"changed and summed":    rezip(resum(strings.Replace(text, "120.50", "120.51", 1))),
		"unknown line":          rezip(resum(strings.Replace(text, `{"event"`, `{"thing"`, 1))),
		"not JSON":              rezip(resum(strings.Replace(text, `{"event":`, `{"event";`, 1))),
		"too short a line":      rezip("{}\n"),
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		n := rnd.IntN(len(file))
		cases[fmt.Sprintf("cut at %d", n)] = file[:n]
		flipped := bytes.Clone(file)
		flipped[max(n, 10)] ^= 1 << rnd.IntN(8) // in front are gzip's time and operating system
		cases[fmt.Sprintf("bit flipped at %d", max(n, 10))] = flipped
		raw := []byte(text)
		raw[rnd.IntN(len(raw))] ^= 1 << rnd.IntN(8)
		cases[fmt.Sprintf("bit flipped before zipping %d", n)] = rezip(string(raw))
	}
	root := memory(t)
	t.Cleanup(func() { os.RemoveAll(root) })
	dir := filepath.Join(root, "journal")
	for name, bad := range cases {
		if _, err := VerifyBackup(bytes.NewReader(bad), nil); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: verified with %v", name, err)
		}
		if _, err := Restore(t.Context(), bytes.NewReader(bad), dir, small, nil, nil); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: restored with %v", name, err)
		}
		if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
			t.Fatalf("%s: left behind %v, %v", name, left, err)
		}
	}
	newer := rezip(resum(strings.Replace(text, `"format":1`, `"format":2`, 1)))
	if _, err := Restore(t.Context(), bytes.NewReader(newer), dir, small, nil, nil); !errors.Is(err, ErrNewer) {
		t.Errorf("newer: %v", err)
	}
	if sum, err := VerifyBackup(bytes.NewReader(file), nil); err != nil || sum.Events != 300 || sum.Stored != 300 {
		t.Errorf("sound: %+v, %v", sum, err)
	}
}

func TestRestoreMindsWhatIsThere(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 10)
	file := backUp(t, b.Journal)
	if _, err := Restore(t.Context(), bytes.NewReader(file), b.dir, small, nil, nil); !errors.Is(err, ErrExists) {
		t.Errorf("over a journal: %v", err)
	}
	// A folder with a lock, as a box without its journal leaves it, and one
	// with remains of a restore that was killed.
	root := t.TempDir()
	dir := filepath.Join(root, "journal")
	for _, path := range []string{dir, dir + restoreSuffix} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, lockName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(segmentPath(dir+restoreSuffix, 5000), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := takeLock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Restore(t.Context(), bytes.NewReader(file), dir, small, nil, nil)
	if _, locked := errors.AsType[*LockedError](err); !locked {
		t.Errorf("into a locked folder: %v", err)
	}
	lock.Close()
	r, err := Restore(t.Context(), bytes.NewReader(file), dir, small, nil, nil)
	if err != nil || r.Aside != "" {
		t.Fatal(r.Aside, err)
	}
	again := start(t, dir, small)
	again.wantSamples(again.all(), 1, 10)
	again.stop()

	// What a human may want to see again is moved, not removed.
	if err := os.Remove(filepath.Join(dir, metaName)); err != nil {
		t.Fatal(err)
	}
	segments, _, err := listSegments(dir, &pool{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if err := os.Rename(s.path, s.path+".kept"); err != nil {
			t.Fatal(err)
		}
	}
	r, err = Restore(t.Context(), bytes.NewReader(file), dir, small, nil, nil)
	if err != nil || r.Aside == "" {
		t.Fatal(r.Aside, err)
	}
	if kept, err := filepath.Glob(filepath.Join(r.Aside, "*.kept")); err != nil || len(kept) != len(segments) {
		t.Errorf("kept %v, %v", kept, err)
	}
}

// adopter fails where it is told to, and notes what it saw.
type adopter struct {
	dir            string // of the journal
	check, adopt   error
	checked, asked Source
	there          bool // the journal, when Adopt was called
}

func (a *adopter) Check(of Source) error {
	a.checked = of
	return a.check
}

func (a *adopter) Adopt(of Source) error {
	a.asked = of
	a.there, _ = present(a.dir)
	return a.adopt
}

func TestRestoreAsksWhoseItIs(t *testing.T) {
	b := start(t, newJournal(t, small), small)
	b.fill(1, 10)
	file := backUp(t, b.Journal)
	whose := Source{Box: "b1", Venue: "v1", Version: "test"}
	no := errors.New("another box's")
	for name, c := range map[string]struct {
		file         []byte
		check, adopt error
		asked        Source
		ok           bool
	}{
		"taken":            {file: file, asked: whose, ok: true},
		"refused at once":  {file: file, check: no},
		"not taken":        {file: file, adopt: no, asked: whose},
		"half of a backup": {file: file[:len(file)-20]},
	} {
		dir := filepath.Join(t.TempDir(), "journal")
		a := &adopter{dir: dir, check: c.check, adopt: c.adopt}
		_, err := Restore(t.Context(), bytes.NewReader(c.file), dir, small, a, nil)
		if (err == nil) != c.ok || (c.check != nil || c.adopt != nil) && !errors.Is(err, no) {
			t.Errorf("%s: %v", name, err)
		}
		if a.checked != whose || a.asked != c.asked || a.there {
			t.Errorf("%s: %+v", name, a)
		}
		if found, err := present(dir); found != c.ok || err != nil {
			t.Errorf("%s: a journal is there: %v, %v", name, found, err)
		}
		if _, err := os.Stat(dir + restoreSuffix); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: what was begun is left: %v", name, err)
		}
	}
}

// gappy is a history with a range that cannot be read, and one that is trimmed
// while it is read.
type gappy struct {
	events  []event.Event // from 1 on
	lost    LostError
	trimmed event.Seq // through here, once 100 was read
}

func (g *gappy) First() event.Seq  { return 1 }
func (g *gappy) Stored() event.Seq { return event.Seq(len(g.events)) }

func (g *gappy) Read(after event.Seq, _, _ int) ([]event.Event, error) {
	if after >= 100 {
		after = max(after, g.trimmed)
	}
	if after+1 >= g.lost.From && after < g.lost.To {
		return nil, fmt.Errorf("read: %w", &g.lost)
	}
	end := min(after+10, g.Stored())
	if after < g.lost.From {
		end = min(end, g.lost.From-1)
	}
	return g.events[after:end], nil
}

func TestBackupOfGaps(t *testing.T) {
	g := gappy{lost: LostError{From: 271, To: 280, Err: ErrDamaged}, trimmed: 200}
	for n := 1; n <= 300; n++ {
		e := sample(n)
		e.Seq, e.Epoch = event.Seq(n), event.NewEpoch("")
		if n > 1 {
			e.Epoch = g.events[0].Epoch
		}
		g.events = append(g.events, *e)
	}
	var file bytes.Buffer
	head := newBackupHead(Source{}, g.events[0].Epoch, map[string]event.Seq{"uplink": 250}, nil)
	if err := backup(t.Context(), &g, &file, head, nil); err != nil {
		t.Fatal(err)
	}
	dir, r := restored(t, file.Bytes(), small)
	if r.Events != 90 || r.Oldest != 201 || r.Newest != 300 || len(r.Lost) != 1 || r.Lost[0].From != 271 {
		t.Errorf("restored %+v", r)
	}
	b := start(t, dir, small)
	if b.First() != 201 || b.Stored() != 300 || b.Stats().Damages != 0 {
		t.Errorf("%d to %d", b.First(), b.Stored())
	}
	good, lost := readable(t, b.Journal)
	if good != 90 || lost != 10 {
		t.Errorf("%d events, %d lost", good, lost)
	}
	if next := b.append(1); next.Seq != 301 {
		t.Errorf("next is %d", next.Seq)
	}
	var out bytes.Buffer
	if err := b.Export(t.Context(), &out, Selection{After: 265}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\n{\"lost\":{\"from\":271,\"to\":280,\"reason\":\"") {
		t.Errorf("export says %s", out.String())
	}

	// All that is kept may be lost, or nothing be there.
	for _, g := range []gappy{{}, {events: g.events[:5], lost: LostError{From: 1, To: 5}}} {
		var file bytes.Buffer
		if err := backup(t.Context(), &g, &file, newBackupHead(Source{}, "", nil, nil), nil); err != nil {
			t.Fatal(err)
		}
		dir, r := restored(t, file.Bytes(), small)
		b := start(t, dir, small)
		if next := b.append(1); r.Events != 0 || next.Seq != g.Stored()+1 {
			t.Errorf("%+v, next is %d", r, next.Seq)
		}
	}
}
