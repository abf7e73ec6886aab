package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// workloadEnv makes the test binary a process that does a workload in the
// directory it is given, and says on stdout what was promised to it.
const workloadEnv = "JOURNAL_TEST_WORKLOAD" // name:dir

// goOnEnv asks a workload to end with an event that must be stored.
const goOnEnv = workloadEnv + "_GOES_ON"

// errThread says that a workload is not on the thread it must be on.
var errThread = errors.New("not on the main thread")

// workload is something to do to a journal. Each does all it does on the main
// thread, because that is what strace counts system calls by: so the n-th one
// is the same one each time.
type workload struct {
	name    string
	prepare func(h *hand) // nil: there is no journal before
	run     func(h *hand)
}

// workloads are the ones whose every system call is a place to be killed.
func workloads() []workload {
	twelve := func(h *hand) {
		h.create()
		h.open()
		for range 4 {
			h.append(3, 200)
		}
		h.close()
	}
	full := func(h *hand) {
		h.create()
		h.open()
		for range 5 {
			h.append(4, 5000) // a segment each
		}
		h.cursor("uplink", 3)
		h.close()
	}
	return []workload{
		{name: "create", run: func(h *hand) {
			h.create()
			h.open()
			h.append(1, 100)
			h.close()
		}},
		{name: "append", prepare: twelve, run: func(h *hand) {
			h.open()
			for i := range 6 {
				h.append(1+i%3*4, 300)
			}
			h.append(3, 60_000) // the file grows, and with it the mapping
			h.append(1, 300)
			h.close()
		}},
		{name: "roll", prepare: twelve, run: func(h *hand) {
			h.open()
			for range 8 {
				h.append(3, 3000)
			}
			h.close()
		}},
		{name: "trim and cursors", prepare: full, run: func(h *hand) {
			h.open()
			h.cursor("lan", 2)
			h.now = h.now.Add(24 * time.Hour)
			h.trim() // nothing yet
			for to := event.Seq(6); to <= 20; to += 7 {
				h.cursor("uplink", to)
				h.cursor("lan", to-1)
				h.trim()
			}
			h.append(2, 100)
			h.cursor("uplink", 21)
			h.close()
		}},
		{name: "state", prepare: twelve, run: func(h *hand) {
			h.open()
			h.put("a", "1")
			h.put("b", strings.Repeat("long", 3000))
			h.cursor("uplink", 5)
			h.put("a", "2")
			h.append(1, 100)
			h.put("b", "")
			for i := range 4 {
				h.put("k"+strconv.Itoa(i), strings.Repeat("v", 900))
			}
			h.close()
		}},
		// What a kill and a failed write leave behind, and another failed write.
		{name: "recover", prepare: func(h *hand) {
			twelve(h)
			h.open()
			h.append(2, 100)
			h.breakDisk()
			h.append(2, 100) // refused
			h.append(1, 100)
			h.litter()
			h.close()
		}, run: func(h *hand) {
			h.open()
			h.append(2, 100)
			h.breakDisk()
			h.append(3, 100) // refused
			h.append(3, 100)
			h.cursor("uplink", 4)
			h.close()
			h.open()
			h.append(1, 100)
			h.close()
		}},
	}
}

// slowWorkloads are for a disk that takes its time.
func slowWorkloads() []workload {
	return []workload{
		{name: "slow", prepare: func(h *hand) { h.create() }, run: func(h *hand) {
			h.open()
			for range 8 {
				h.append(2, 100)
			}
			h.cursor("uplink", 3)
			h.close()
		}},
		{name: "read beside", prepare: func(h *hand) {
			h.create()
			h.open()
			h.append(5, 100)
			h.close()
		}, run: func(h *hand) {
			h.open()
			h.beside(func() {
				for range 6 {
					h.append(2, 100)
				}
			})
			h.close()
		}},
	}
}

// beside reads what is stored, ten times a second, while work is done, and
// says how often it could.
func (h *hand) beside(work func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	reads := 0
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			if events, err := h.j.Read(0, 5, 1<<20); err == nil && len(events) == 5 && h.j.Cursor("uplink") == 0 {
				reads++
			}
		}
	})
	work()
	close(done)
	wg.Wait()
	h.say("beside %d", reads)
}

// workChild does the workload that the environment names.
func workChild(text string) error {
	runtime.LockOSThread()
	if syscall.Gettid() != os.Getpid() {
		return errThread
	}
	name, dir, _ := strings.Cut(text, ":")
	for _, w := range append(workloads(), slowWorkloads()...) {
		if w.name == name {
			h := &hand{dir: dir, out: os.Stdout, now: day}
			sent, err := strconv.Atoi(os.Getenv(workloadEnv + "_SENT"))
			if err != nil {
				return err
			}
			h.sent = sent
			h.say("begin %d", os.Getpid())
			w.run(h)
			if os.Getenv(goOnEnv) != "" {
				h.goOn()
			}
			h.say("done")
			return nil
		}
	}
	return fmt.Errorf("no workload %q", name)
}

// hand does things to a journal and says what it was promised. It plays the
// part of Run itself. An error is said too, and what comes after is tried all
// the same, as a box would.
type hand struct {
	dir  string
	out  io.Writer
	now  time.Time
	sent int
	j    *Journal // nil: it is not open
}

func (h *hand) options() Options {
	return Options{SegmentBytes: 16 << 10, RetainFor: time.Hour, Now: func() time.Time { return h.now }}
}

// say writes one line with one system call.
func (h *hand) say(format string, args ...any) { fmt.Fprintf(h.out, format+"\n", args...) }

func (h *hand) create() {
	if err := Create(h.dir, h.options()); err != nil {
		h.say("error %q", err)
	}
}

// open opens the journal, trying again a few times as a service manager would.
func (h *hand) open() {
	for range 3 {
		j, err := Open(h.dir, h.options())
		if errors.Is(err, ErrMissing) {
			h.create()
		}
		if err == nil {
			h.j = j
			h.say("epoch %s", j.Epoch())
			return
		}
		h.say("error %q", err)
	}
}

func (h *hand) close() {
	if h.j == nil {
		return
	}
	if err := h.j.Close(); err != nil {
		h.say("error %q", err)
	}
	h.j = nil
}

// append has n events stored in one commit.
func (h *hand) append(n, size int) {
	if h.j == nil {
		return
	}
	h.say("sent %d", h.sent+n)
	answered := 0
	for range n {
		h.sent++
		e := workEvent(h.sent, size)
		err := h.j.Enqueue(context.Background(), e, func(r event.Receipt, err error) {
			answered++
			if err != nil {
				h.say("refused %s %q", e.ID, err)
			} else {
				h.say("stored %d %s %s", r.Seq, r.ID, r.Epoch)
			}
		})
		if err != nil {
			answered++
			h.say("refused %s %q", e.ID, err)
		}
	}
	for answered < n {
		h.j.commit(h.j.queue.take(context.Background(), nil))
	}
}

func (h *hand) cursor(name string, to event.Seq) {
	if h.j == nil {
		return
	}
	h.say("moving %s %d", name, to)
	if err := h.j.MoveCursor(name, to); err != nil {
		h.say("error %q", err)
		return
	}
	h.say("moved %s %d", name, to)
}

// put stores a value; an empty one deletes.
func (h *hand) put(key, value string) {
	if h.j == nil {
		return
	}
	h.say("putting %s %s", key, value)
	stored := []byte(value)
	if value == "" {
		stored = nil
	}
	if err := h.j.Put("work", map[string][]byte{key: stored}); err != nil {
		h.say("error %q", err)
		return
	}
	h.say("put %s %s", key, value)
}

func (h *hand) trim() {
	if h.j == nil {
		return
	}
	if _, err := h.j.Trim(); err != nil {
		h.say("error %q", err)
	}
}

// breakDisk makes the next write to the active segment fail.
func (h *hand) breakDisk() {
	if h.j == nil || h.j.writer.active == nil {
		return
	}
	s := h.j.writer.active
	fd, err := syscall.Open(s.path, syscall.O_RDONLY, 0)
	if err == nil {
		err = errors.Join(syscall.Dup3(fd, int(s.file.raw.Fd()), 0), syscall.Close(fd))
	}
	if err != nil {
		h.say("error %q", err)
	}
}

// goOn appends until an event is stored. A disk that was full a moment ago may
// be asked again only after a while.
func (h *hand) goOn() {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		if h.j == nil {
			h.open()
			continue
		}
		before := h.j.Stored()
		h.append(1, 50)
		if h.j.Stored() > before {
			h.say("went on")
			h.close()
			return
		}
	}
}

// litter leaves files that a kill in the middle of their making leaves.
func (h *hand) litter() {
	for _, name := range []string{metaName, "00000000000000000016" + segmentSuffix} {
		if err := os.WriteFile(filepath.Join(h.dir, name+tempSuffix), []byte("half"), 0o600); err != nil {
			h.say("error %q", err)
		}
	}
}

// workEvent makes the n-th event of a workload.
func workEvent(n, size int) *event.Event {
	e := sample(n)
	e.ID = event.ID(fmt.Sprintf("w-%d-%d", n, size))
	e.Payload = workPayload(string(e.ID), size)
	return e
}

func workPayload(id string, size int) []byte {
	return fmt.Appendf(nil, `{"id":%q,"pad":"%s"}`, id, bytes.Repeat([]byte(id), size/len(id)))
}
