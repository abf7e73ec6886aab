package boxtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/daemon"
)

// killsPerLife bounds what one box lives through before a new one takes its
// place: so what is kept to compare with stays small, and the first start of a
// box is killed now and then too.
const killsPerLife = 40

// retained is what the box keeps of what the back-end has: little, so that it
// rolls and trims while it is killed.
const retained = 4 << 20

// TestKillLoop kills a whole box without warning, again and again, while eight
// terminals sell and a back-end listens, and looks from outside whether it
// kept its promises. AVOQADO_TORTURE=n kills it n times; AVOQADO_SEED=s draws
// the same moments, though what races there may end differently.
func TestKillLoop(t *testing.T) {
	kills := 7 // each moment once
	switch n, err := strconv.Atoi(os.Getenv("AVOQADO_TORTURE")); {
	case err == nil && n > 0:
		kills = n
	case testing.Short():
		kills = 2
	}
	seed := rand.Uint64N(1<<63-1) + 1
	if text := os.Getenv("AVOQADO_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 63); err != nil {
			t.Fatalf("AVOQADO_SEED=%q is no seed", text)
		}
	}
	done, events, repeats := map[string]int{}, 0, 0
	defer func() {
		total, violations := 0, 0
		var parts []string
		for name, n := range done {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, name))
		}
		if t.Failed() {
			violations = 1 // it ends at the first
		}
		slices.Sort(parts)
		t.Logf("torture: %s|kills|%d|%d|%d|%d events, %d sent again; %s", t.Name(), total, violations, seed, events, repeats, strings.Join(parts, ", "))
	}()
	for n := 0; n < kills && !t.Failed(); {
		now := min(kills-n, killsPerLife)
		t.Run(fmt.Sprintf("after %d", n), func(t *testing.T) {
			l := newLife(t, rand.New(rand.NewPCG(seed, uint64(n))))
			defer func() {
				for name, n := range l.done {
					done[name] += n
				}
				events, repeats = events+int(l.book.stored()), repeats+l.book.repeats
			}()
			l.lead(now)
		})
		n += now
	}
}

// life is one box, from its first start to its end, and the venue around it.
type life struct {
	t       *testing.T
	rnd     *rand.Rand
	broker  *Mosquitto
	backend *Backend
	box     *Box
	book    *book
	work    chan int // sales to make: how much to pad each by
	pending atomic.Int64
	wg      sync.WaitGroup

	answers, commits atomic.Pointer[fuse]

	kills int            // still to come
	done  map[string]int // kills so far, by their moment
}

func newLife(t *testing.T, rnd *rand.Rand) *life {
	l := &life{t: t, rnd: rnd, book: newBook(), work: make(chan int, 1024), done: map[string]int{}}
	l.broker = StartMosquitto(t, MosquittoConfig{Extra: []string{"max_queued_messages 100000"}})
	l.backend = StartBackend(t, l.broker, false, func(e cloud.Effect) {
		l.book.commit(e)
		l.commits.Load().burn()
	})
	l.box = NewBox(t, BoxConfig{
		Broker: l.broker.URL(),
		Extra:  fmt.Sprintf("journal: {segment_bytes: 1MiB, retain_bytes: %dMiB, ballast_bytes: 4MiB}", retained>>20),
	})
	return l
}

// fuse kills a process when it has burned down.
type fuse struct {
	left    atomic.Int64
	process *process
}

func (f *fuse) burn() {
	if f != nil && f.left.Add(-1) == 0 {
		f.process.signal(syscall.SIGKILL)
	}
}

// light returns a fuse on the process that the box is now.
func (l *life) light(length int) *fuse {
	f := &fuse{process: l.box.process}
	f.left.Store(int64(length))
	return f
}

func (l *life) answered() { l.answers.Load().burn() }

// lead leads the box through so many kills and to a good end.
func (l *life) lead(kills int) {
	ctx, leave := context.WithCancel(l.t.Context())
	defer l.wg.Wait()
	defer leave()
	stay := func(who string, run func(context.Context) error) {
		l.wg.Go(func() {
			if err := run(ctx); err != nil {
				l.book.complain("%s was sent away: %w", who, err)
			}
		})
	}
	for n := range tills {
		stay(fmt.Sprintf("till %d", n), newTill(l, n).run)
	}
	stay("the listener", l.listen)

	moments := []func(){l.starting, l.answering, l.working, l.rolling, l.draining, l.stopping}
	var next []int
	for l.kills = kills; l.kills > 0; {
		if len(next) == 0 { // each kind once before one comes again
			next = l.rnd.Perm(len(moments))
		}
		moments[next[0]]()
		next = next[1:]
	}
	l.rest()
}

// kill ends the box, if it is not dead already, and looks what it left behind.
func (l *life) kill(moment string) {
	l.t.Helper()
	l.box.Kill()
	l.answers.Store(nil)
	l.commits.Store(nil)
	l.kills--
	l.done[moment]++
	for len(l.work) > 0 { // sales that nobody began
		select {
		case <-l.work:
			l.pending.Add(-1)
		default:
		}
	}
	l.audit("killed " + moment)
}

func (l *life) audit(when string) {
	l.t.Helper()
	if err := l.book.audit(daemon.JournalDir(l.box.StateDir())); err != nil {
		l.t.Fatalf("%s: %v", when, err)
	}
}

// sell has the tills make so many sales: small ones with a large one among
// them now and then, or large ones.
func (l *life) sell(n int, large bool) {
	for range n {
		pad := l.rnd.IntN(400)
		if large || l.rnd.IntN(16) == 0 {
			pad = 8<<10 + l.rnd.IntN(64<<10)
		}
		l.pending.Add(1)
		l.work <- pad
	}
}

// starting: within the time a start takes, or just after it.
func (l *life) starting() {
	l.box.Launch()
	l.sell(20, false)
	l.box.process.ended(time.Duration(l.rnd.Int64N(int64(150 * time.Millisecond))))
	l.kill("starting")
}

// answering: as soon as a till has a certain answer. What was promised a
// moment ago is all that the box had time to write.
func (l *life) answering() {
	l.box.Start()
	l.answers.Store(l.light(1 + l.rnd.IntN(60)))
	l.sell(80, false)
	l.box.process.ended(3 * time.Second)
	l.kill("at an answer")
}

// working: at any moment.
func (l *life) working() {
	l.box.Start()
	l.sell(80, l.rnd.IntN(4) == 0)
	l.box.process.ended(time.Duration(l.rnd.Int64N(int64(250 * time.Millisecond))))
	l.kill("at work")
}

// rolling: as soon as a certain file of the journal comes or goes, which is in
// the middle of beginning a segment or of a trim.
func (l *life) rolling() {
	l.box.Start()
	l.sell(80, true)
	changes := 1 + l.rnd.IntN(6)
	dir := daemon.JournalDir(l.box.StateDir())
	before := names(l.t, dir)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	deadline := time.NewTimer(2 * time.Second)
	defer deadline.Stop()
	moment := "at work"
wait:
	for {
		select {
		case <-tick.C:
		case <-deadline.C:
			break wait
		}
		if now := names(l.t, dir); !slices.Equal(now, before) {
			if changes--; changes == 0 {
				moment = "rolling or trimming"
				break wait
			}
			before = now
		}
	}
	l.kill(moment)
}

func names(t *testing.T, dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

// draining: first without a broker, and then as soon as the back-end has a
// certain part of what has gathered.
func (l *life) draining() {
	l.broker.Stop()
	l.box.Start()
	large := l.rnd.IntN(2) == 0
	n := 100
	if large { // more than the box would keep, were it not for the cloud
		n = 250
	}
	l.answers.Store(l.light(n/2 + l.rnd.IntN(n/4)))
	l.sell(n, large)
	l.box.process.ended(5 * time.Second)
	l.kill("offline")
	l.broker.Start()
	Eventually(l.t, 20*time.Second, "the back-end listens again", l.backend.Online)

	l.box.Launch()
	backlog := int(l.book.stored() - l.book.synced())
	l.commits.Store(l.light(1 + l.rnd.IntN(max(backlog, 1))))
	l.box.process.ended(3 * time.Second)
	l.kill("draining")
}

// stopping: after it was asked to stop.
func (l *life) stopping() {
	l.box.Start()
	l.sell(100, false)
	l.box.process.ended(time.Duration(l.rnd.Int64N(int64(100 * time.Millisecond))))
	l.box.process.signal(syscall.SIGTERM)
	l.box.process.ended(time.Duration(l.rnd.Int64N(int64(30 * time.Millisecond))))
	l.kill("stopping")
}

// rest lets the box finish its work and stop in good order.
func (l *life) rest() {
	l.box.Start()
	l.sell(20, false)
	Eventually(l.t, time.Minute, "all sales are answered and synced", func() bool {
		st := l.box.Status()
		return l.pending.Load() == 0 && st.Journal.Backlog.Events == 0 && st.Journal.SyncedThrough == st.Journal.StoredThrough ||
			l.book.verdict() != nil
	})
	l.box.Stop()
	l.audit("stopped")
	if err := l.book.close(l.backend); err != nil {
		l.t.Fatalf("at the end: %v", err)
	}
}
