package journal

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// smallDisk mounts a new ext4 of 24 MB and returns where. Only root can, and
// not everywhere: else the test is skipped with the reason.
func smallDisk(t *testing.T) string {
	t.Helper()
	needs.Root(t, "mount a small disk")
	mkfs := needs.Program(t, "mkfs.ext4")
	root := t.TempDir()
	image, at := filepath.Join(root, "disk"), filepath.Join(root, "mount")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 24<<20), os.Mkdir(at, 0o700)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", "-m", "0", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,errors=remount-ro", image, at).CombinedOutput(); err != nil {
		needs.Missing(t, fmt.Sprintf("a small disk cannot be mounted here: %v\n%s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return at
}

// onSmallDisk starts a journal on a disk of its own.
func onSmallDisk(t *testing.T) (b *box, disk string, o Options) {
	t.Helper()
	disk = smallDisk(t)
	o = Options{SegmentBytes: 1 << 20, BallastBytes: 1 << 20, RetainFor: time.Hour, Now: small.Now}
	dir := filepath.Join(disk, "journal")
	if err := Create(dir, o); err != nil {
		t.Fatal(err)
	}
	return start(t, dir, o), disk, o
}

// big is a sample of a class with 10 kB.
func big(n int, class event.Class) *event.Event {
	e := sample(n)
	e.Class = class
	e.Payload = workPayload(string(e.ID), 10_000)
	return e
}

// pump appends big events of a class until one is refused, and returns how many
// were stored and why no more.
func (b *box) pump(from, atMost int, class event.Class) (stored int, err error) {
	b.t.Helper()
	for n := from; n < from+atMost; n++ {
		if _, err := b.Append(b.t.Context(), big(n, class)); err != nil {
			return n - from, err
		}
	}
	return atMost, nil
}

// wantBig checks that the events are there, as they were sent.
func (b *box) wantBig(to int) {
	b.t.Helper()
	events := b.all()
	if len(events) != to {
		b.t.Fatalf("%d events, %d were acknowledged", len(events), to)
	}
	for i, e := range events {
		if want := big(i+1, event.Money); e.ID != want.ID || string(e.Payload) != string(want.Payload) {
			b.t.Fatalf("event %d is %s", e.Seq, e.ID)
		}
	}
}

// storesAgain waits until an event is taken.
func (b *box) storesAgain(n int) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if _, err = b.Append(b.t.Context(), big(n, event.Money)); err == nil {
			return
		}
	}
	b.t.Fatalf("never stores again: %v", err)
}

// occupy writes a file until the disk is full and returns its path.
func occupy(t *testing.T, disk string) string {
	t.Helper()
	path := filepath.Join(disk, "neighbour")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0 && err == nil; {
		if _, err = f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size, err = size/2, nil
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFullDisk fills a real disk with events until it takes no more. Classes
// are given up in their order; cursors move and segments go all the same; what
// was acknowledged stays; and when there is room again the box goes on.
func TestFullDisk(t *testing.T) {
	b, _, o := onSmallDisk(t)
	if err := b.MoveCursor("uplink", 0); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, class := range []event.Class{event.Service, event.Alerts, event.Orders, event.Money} {
		n, err := b.pump(total+1, 10_000, class)
		full, ok := errors.AsType[*FullError](err)
		if !ok || full.Class != class {
			t.Fatalf("class %s is refused with %v", class, err)
		}
		if n == 0 {
			t.Fatalf("class %s is refused together with the one before", class)
		}
		total += n
		t.Logf("class %s is refused after %d events: %v", class, total, err)
	}
	for range 3 {
		if _, err := b.Append(t.Context(), big(total+1, event.Money)); err == nil {
			t.Fatal("stored on a full disk")
		}
	}
	b.wantBig(total)
	// The way out of it needs room itself.
	if err := errors.Join(b.MoveCursor("uplink", b.Stored()), b.MoveCursor("lan", 5)); err != nil {
		t.Fatalf("a cursor cannot move on a full disk: %v", err)
	}
	if err := b.MoveCursor("lan", b.Stored()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Trim(); err != nil {
		t.Fatalf("trim: %v", err)
	}
	b.storesAgain(total + 1)
	if b.First() == 1 {
		t.Fatal("nothing was trimmed")
	}
	b = b.restart(o)
	if b.Stored() != event.Seq(total+1) || b.Stats().Damages > 0 {
		t.Fatalf("stored %d of %d, %+v", b.Stored(), total+1, b.Stats())
	}
	b.stop()
	if r, err := Check(b.dir); err != nil || !r.OK() {
		t.Fatalf("check: %v, %+v", err, r)
	}
}

// TestRestartOnAFullDisk opens a journal while a neighbour has taken all room.
func TestRestartOnAFullDisk(t *testing.T) {
	b, disk, o := onSmallDisk(t)
	total, err := b.pump(1, 100, event.Money)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	path := occupy(t, disk)
	b = start(t, b.dir, o)
	b.wantBig(total)
	if err := b.MoveCursor("uplink", 7); err != nil {
		t.Fatalf("a cursor cannot move: %v", err)
	}
	n, err := b.pump(total+1, 10_000, event.Money)
	if err == nil {
		t.Fatal("stored without end on a full disk")
	}
	total += n
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b.storesAgain(total + 1)
	b = b.restart(o)
	b.wantBig(total + 1)
	b.stop()
}

// TestDamageOnAFullDisk loses the state while there is no room for a new one but
// the ballast's: the box starts all the same.
func TestDamageOnAFullDisk(t *testing.T) {
	b, disk, o := onSmallDisk(t)
	total, err := b.pump(1, 100, event.Money)
	if err != nil {
		t.Fatal(err)
	}
	b.stop()
	occupy(t, disk)
	if b.room.ballast.bytes() == 0 {
		t.Fatal("no room was kept back")
	}
	f, err := os.OpenFile(filepath.Join(b.dir, metaName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 2*pageSize), 0) // no new blocks
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	b = start(t, b.dir, o)
	b.wantBig(total)
	b.stop()
}

// TestRescueOnAFullDisk has the room end between two batches of a rescue: what
// the first one stored can be read, and keys looked up, in the same process.
func TestRescueOnAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	dir, o := filepath.Join(disk, "journal"), Options{Now: small.Now}
	if err := Create(dir, o); err != nil {
		t.Fatal(err)
	}
	j, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	rescue := func(from, to event.Seq) {
		for seq := from; seq <= to; seq++ {
			e := big(int(seq), event.Money)
			e.Seq = seq
			j.writer.rescue = append(j.writer.rescue, *e)
		}
		j.writer.next = to + 1
	}
	rescue(1, 10)
	if err := j.ready(); err != nil {
		t.Fatal(err)
	}
	rescue(11, 60)
	neighbour := occupy(t, disk)
	if err := j.writeRescued(); !isFull(err) {
		t.Fatalf("stored on a full disk: %v", err)
	}
	if err := errors.Join(os.Remove(neighbour), j.ready()); err != nil {
		t.Fatal(err)
	}
	j.tail.init(61)
	j.stored.Store(60)
	b := run(t, j)
	b.wantBig(60)
	if _, err := b.Append(t.Context(), keyed(61, "k/61", 1)); err != nil {
		t.Errorf("with a key: %v", err)
	}
	b.stop()
}

// TestNeighbour has another program fill the disk and leave again, over and
// over, while events come.
func TestNeighbour(t *testing.T) {
	b, disk, o := onSmallDisk(t)
	total := 0
	rounds := torture(t, 3, 1)
	count := &tally{t: t, what: "times the disk was filled", count: rounds}
	defer count.report()
	for range rounds {
		n, err := b.pump(total+1, 30, event.Money)
		if err != nil {
			t.Fatalf("with room: %v", err)
		}
		total += n
		path := occupy(t, disk)
		if n, err = b.pump(total+1, 2000, event.Money); err == nil {
			t.Fatal("stored without end on a full disk")
		}
		total += n
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		b.storesAgain(total + 1)
		total++
		if got := len(b.all()); b.Stored() != event.Seq(total) || got != int(b.Stored()-b.First())+1 {
			t.Fatalf("%d events from %d to %d, %d were acknowledged", got, b.First(), b.Stored(), total)
		}
		if err := b.MoveCursor("uplink", b.Stored()); err != nil { // it may be trimmed
			t.Fatal(err)
		}
	}
	b = b.restart(o)
	if b.Stored() != event.Seq(total) {
		t.Fatalf("stored %d, %d were acknowledged", b.Stored(), total)
	}
	b.stop()
}

// TestReadOnlyAndBack has the file system meet an error and turn read-only
// under the box, as ext4 does. Events are refused, what is there can be read,
// and once the disk is mounted anew nothing that was acknowledged is missing.
func TestReadOnlyAndBack(t *testing.T) {
	b, disk, o := onSmallDisk(t)
	total, err := b.pump(1, 50, event.Money)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(filepath.Dir(disk), "disk")
	device, err := exec.Command("findmnt", "-n", "-o", "SOURCE", disk).Output()
	if err != nil {
		t.Skipf("SKIPPED: the device of a mount cannot be found: %v", err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0o200); err != nil {
		t.Skipf("SKIPPED: an error of ext4 cannot be provoked here: %v", err)
	}
	for range 3 {
		if _, err := b.Append(t.Context(), big(1000, event.Money)); err == nil {
			t.Fatal("stored on a read-only disk")
		}
	}
	if s := b.Stats(); s.Err == nil {
		t.Fatalf("stats %+v", s)
	}
	b.wantBig(total)
	if err := b.MoveCursor("uplink", 3); err == nil {
		t.Fatal("a cursor moved on a read-only disk")
	}
	b.stop()
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	mount("umount", disk)
	mount("mount", "-o", "loop", image, disk) // its own journal is played back
	mount("mount", "-o", "remount,ro", disk)
	if _, err := Open(b.dir, o); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("open on a read-only disk: %v", err)
	}
	if r, err := Check(b.dir); err != nil || !r.OK() || r.Events != uint64(total) {
		t.Fatalf("check: %v, %+v", err, r)
	}
	mount("mount", "-o", "remount,rw", disk)
	b = start(t, b.dir, o)
	b.storesAgain(total + 1)
	b.wantBig(total + 1)
	b.stop()
}
