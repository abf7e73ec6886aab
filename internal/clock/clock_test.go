package clock

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const year = 365 * 24 * time.Hour

// machine is one with a clock that can be wrong: its wall clock is the truth and
// an offset, its uptime goes on whatever is done to that.
type machine struct {
	t     *testing.T
	path  string
	built time.Time
	log   bytes.Buffer

	truth  time.Time
	up     time.Duration
	offset time.Duration
	sync   Sync
	frozen time.Time // what the wall clock says for ever; zero: it goes
	boot   string
	clock  *Clock
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{
		t: t, path: filepath.Join(t.TempDir(), "clock.json"), sync: Unsynced,
		truth: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), built: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
	}
	m.reboot("00000000-0000-4000-8000-000000000001")
	return m
}

// reading is what the system says.
func (m *machine) reading() Reading {
	r := Reading{Wall: m.truth.Add(m.offset), Up: m.up, Sync: m.sync}
	if !m.frozen.IsZero() {
		r.Wall = m.frozen
	}
	if m.sync == Synced {
		r.Error = 50 * time.Millisecond
	}
	return r
}

// restart begins the clock anew within the same boot, as after a kill.
func (m *machine) restart() {
	m.clock = Open(Config{Path: m.path, Built: m.built, System: m.reading, Boot: m.boot, Log: slog.New(slog.NewTextHandler(&m.log, nil))})
}

func (m *machine) reboot(boot string) {
	m.up, m.boot = 10*time.Second, boot
	m.restart()
}

func (m *machine) pass(d time.Duration) {
	m.truth, m.up = m.truth.Add(d), m.up+d
}

func (m *machine) keep() {
	m.t.Helper()
	if err := m.clock.Keep(); err != nil {
		m.t.Fatal(err)
	}
}

// off says how far the clock is from the truth.
func (m *machine) off(what string, want time.Duration) {
	m.t.Helper()
	if got := m.clock.Now().Sub(m.truth); got != want {
		m.t.Errorf("%s: %s from the truth, want %s", what, got, want)
	}
}

func (m *machine) trusted(what string, want Source) {
	m.t.Helper()
	if st := m.clock.Status(); st.Source != want || st.Trusted != (want != None) {
		m.t.Errorf("%s: %+v, want %s", what, st, want)
	}
}

// event takes an event now.
func (m *machine) event() *event.Event {
	e := &event.Event{Time: m.clock.Now().Truncate(time.Millisecond)}
	e.Clock = m.clock.Stamp(e.Time)
	return e
}

// when checks what is known of an event's time: the truth lies within the
// error.
func (m *machine) when(what string, e *event.Event, truth time.Time, want event.TimeQuality) {
	m.t.Helper()
	got := m.clock.When(e)
	if got.Quality != want {
		m.t.Errorf("%s: quality is %s, want %s", what, got.Quality, want)
	}
	known := want != event.TimeUnknown
	if known != (got.Error > 0) || known && got.Time.Sub(truth).Abs() > got.Error+time.Millisecond {
		m.t.Errorf("%s: at %s ± %s, and it was at %s", what, got.Time, got.Error, truth)
	}
}

// TestBootIn1970 starts a board without a battery and without a network, then
// gives it the time.
func TestBootIn1970(t *testing.T) {
	m := newMachine(t)
	m.offset = time.Unix(0, 0).Sub(m.truth)
	m.restart()
	m.off("it begins where the program was made", m.built.Sub(m.truth))
	m.trusted("nobody said anything", None)
	first, at := m.event(), m.truth
	m.when("so far", first, at, event.TimeUnknown)
	m.pass(time.Hour)
	if got := m.clock.Now().Sub(first.Time); got != time.Hour {
		t.Errorf("an hour took %s", got)
	}
	m.offset, m.sync = 0, Synced
	m.off("synchronised", 0)
	m.trusted("synchronised", NTP)
	m.when("put right", first, at, event.TimeCorrected)
	second, then := m.event(), m.truth
	m.when("taken by a good clock", second, then, event.TimeSynced)

	// All of it outlives the power.
	m.keep()
	m.pass(2 * time.Hour)
	m.keep()
	m.offset, m.sync = time.Unix(0, 0).Sub(m.truth), Unsynced
	m.reboot("00000000-0000-4000-8000-000000000002")
	m.off("it goes on where it was last", 0)
	m.trusted("as long as nobody confirms it", None)
	m.when("of the last boot", first, at, event.TimeCorrected)
	m.when("of the last boot, by a good clock", second, then, event.TimeSynced)
	m.when("of this boot", m.event(), m.truth, event.TimeUnknown)
}

// TestNeverBehind: whatever a clock said and was kept, no later one says less.
func TestNeverBehind(t *testing.T) {
	m := newMachine(t)
	m.sync = Synced
	last, kept := time.Time{}, 0
	for boot, offset := range []time.Duration{0, -time.Hour, -10 * year, time.Minute, -year, 0} {
		m.offset = offset
		m.reboot(strings.Replace(m.boot, "0001", "000"+string(rune('1'+boot)), 1))
		for range 9 {
			m.pass(keepEvery)
			m.keep()
			if now := m.clock.Now(); now.Before(last) {
				t.Errorf("boot %d: %s, and %s was kept", boot, now, last)
			}
			k, err := load(m.path)
			if err != nil {
				t.Fatal(err)
			}
			if k.floor.After(last) {
				last = k.floor
				kept++
			}
		}
	}
	if kept < 10 {
		t.Errorf("kept %d times", kept)
	}
	if st := m.clock.Status(); !st.Trusted || st.Problem == "" && st.Error == 0 {
		t.Errorf("at the end: %+v", st)
	}
}

// TestNeverBehindWhatIsOnDisk: what was written down while nobody confirmed the
// time is a floor for a time source that comes later, too.
func TestNeverBehindWhatIsOnDisk(t *testing.T) {
	m := newMachine(t)
	m.sync = Synced
	m.keep()
	m.sync, m.offset = Unsynced, time.Hour // set ahead, and nothing confirms it
	m.restart()
	m.pass(keepEvery)
	m.keep()
	k, err := load(m.path)
	if err != nil || !k.floor.Equal(m.truth) {
		t.Fatalf("%s is kept at %s, %v", k.floor, m.truth, err)
	}
	m.sync, m.offset = Synced, -time.Second
	if now := m.clock.Now(); now.Before(k.floor) {
		t.Errorf("%s, and %s is on disk", now, k.floor)
	}
}

// TestJumps sets the system's clock while nothing disciplines it: the box goes
// on.
func TestJumps(t *testing.T) {
	for _, jump := range []time.Duration{10 * year, -10 * year, time.Hour, -time.Hour, -time.Second} {
		m := newMachine(t)
		before, at := m.event(), m.truth
		m.pass(time.Minute)
		m.offset = jump
		m.off("after a jump", 0)
		m.keep()
		if told := m.clock.Status().Problem != ""; told != (jump.Abs() > visible) {
			t.Errorf("jump of %s: problem %q", jump, m.clock.Status().Problem)
		}
		during, then := m.event(), m.truth
		m.pass(time.Minute)
		m.offset, m.sync = 0, Synced
		m.off("synchronised", 0)
		m.when("before the jump", before, at, event.TimeCorrected)
		m.when("after the jump", during, then, event.TimeCorrected)
		if p := m.clock.Status().Problem; p != "" {
			t.Errorf("jump of %s: problem %q stays", jump, p)
		}
		// Synchronised once, it does not follow either when it is no longer.
		m.sync, m.offset = Unsynced, jump
		m.pass(time.Hour)
		m.off("the network is gone, and a jump", 0)
		m.when("an hour after the network went", m.event(), m.truth, event.TimeSynced)
	}
}

// TestFreeze stops the system's clock.
func TestFreeze(t *testing.T) {
	m := newMachine(t)
	m.frozen = m.truth
	m.pass(time.Hour)
	m.off("the wall clock stands", 0)
}

// TestStep has a time source step the clock during a run: events before and
// after bear what was known of each.
func TestStep(t *testing.T) {
	for _, step := range []time.Duration{-2 * time.Second, 3 * time.Hour, -3 * time.Hour, 30 * 24 * time.Hour} {
		m := newMachine(t)
		m.offset = -step // wrong, and it does not know
		m.restart()
		before, at := m.event(), m.truth
		m.pass(10 * time.Minute)
		m.offset, m.sync = 0, Synced
		after, then := m.event(), m.truth
		m.when("before the step", before, at, event.TimeCorrected)
		m.when("after the step", after, then, event.TimeSynced)
	}
}

// TestErrorHoldsTheTruth: a crystal that drifts and a time source that is off are
// both within the error that is given, and the error is no larger than they need.
func TestErrorHoldsTheTruth(t *testing.T) {
	const passes = 10 * time.Hour
	for _, drift := range []time.Duration{400 * passes / 1e6, -400 * passes / 1e6} {
		m := newMachine(t)
		before, at := m.event(), m.truth
		m.pass(passes)
		m.truth = m.truth.Add(drift)
		m.offset, m.sync = 40*time.Millisecond, Synced
		m.when("synchronised", m.event(), m.truth, event.TimeSynced)
		m.when("before it", before, at, event.TimeCorrected)
		if got, most := m.clock.When(before).Error, 2*drift.Abs(); got > most {
			t.Errorf("an error of %s is given, %s are enough", got, most)
		}
	}
}

// TestWrongServer: a time server that was wrong for less than an hour leaves
// nothing behind; one that was for longer is not forgotten, and it is said how
// it can be.
func TestWrongServer(t *testing.T) {
	m := newMachine(t)
	m.sync = Synced
	m.pass(proof)
	m.keep()
	m.pass(proof) // the program is a month old: the first time is a leap, too
	m.keep()
	m.offset = 10 * year
	m.keep()
	m.pass(30 * time.Minute)
	m.keep()
	m.offset = 0
	m.off("right again", 0)
	m.restart()
	m.off("and after a restart", 0)

	m.offset = 10 * year
	m.keep()
	m.pass(proof)
	m.keep()
	m.offset = 0
	m.off("kept", 10*year)
	if st := m.clock.Status(); st.Trusted || !strings.Contains(st.Problem, m.path) {
		t.Errorf("status is %+v", st)
	}
	m.when("meanwhile", m.event(), m.truth, event.TimeUnknown)
	if err := os.Remove(m.path); err != nil {
		t.Fatal(err)
	}
	m.restart()
	m.off("as the status says", 0)
}

// TestHeard: the cloud's word is a time that was over when it came.
func TestHeard(t *testing.T) {
	m := newMachine(t)
	m.clock.Heard(time.Time{})
	m.trusted("nothing said", None)
	m.clock.Heard(m.truth.Add(-3 * recent))
	m.trusted("something old", None)
	m.off("something old", 0)
	m.clock.Heard(m.truth.Add(-time.Minute))
	m.trusted("something recent", Cloud)
	m.off("something recent", 0)
	m.offset = -10 * year
	m.restart()
	m.off("behind", m.built.Sub(m.truth))
	e, at := m.event(), m.truth
	m.clock.Heard(m.truth.Add(-time.Minute))
	m.off("not behind the cloud any more", -time.Minute)
	m.trusted("it said so", Cloud)
	m.pass(time.Hour)
	m.off("an hour later", -time.Minute)
	m.clock.Heard(m.truth.Add(-time.Hour))
	m.off("something older", -time.Minute)
	m.when("nobody knows how long the word took", e, at, event.TimeUnknown)
	m.keep()
	m.pass(proof)
	m.keep()
	m.restart()
	m.off("kept", -time.Minute)
	m.sync, m.offset = Synced, 0
	m.off("a time source knows better", 0)
	m.clock.Heard(m.truth.Add(10 * year))
	m.off("and is not overruled", 0)
	m.when("put right", e, at, event.TimeCorrected)
}

// TestHeardBefore: the box keeps the cloud's word over restarts, and hears it again
// at each. That says nothing of how long it was off.
func TestHeardBefore(t *testing.T) {
	m := newMachine(t)
	word := m.truth
	m.clock.Heard(word)
	m.trusted("heard", Cloud)
	m.pass(time.Hour)
	m.keep()

	m.pass(7 * 24 * time.Hour) // without power; the board's clock stands
	m.offset = -7*24*time.Hour - 5*time.Second
	m.reboot("00000000-0000-4000-8000-000000000002")
	m.clock.Heard(word)
	m.trusted("heard before the power went", None)
	m.clock.Heard(m.truth.Add(-time.Minute))
	m.trusted("a fresh word", Cloud)
	m.off("a fresh word", -time.Minute)
}

// TestWrongWord: what the cloud said by mistake it can take back for an hour, but
// not lead the box behind what was kept; and some things it cannot mean.
func TestWrongWord(t *testing.T) {
	m := newMachine(t)
	m.clock.Heard(m.truth)
	m.pass(time.Hour)
	m.keep()
	kept := m.truth
	m.clock.Heard(m.built.Add(service + time.Hour))
	m.off("a time that cannot be", 0)
	m.clock.Heard(m.truth.Add(10 * year))
	m.off("wrong", 10*year)
	m.keep()
	m.pass(time.Minute)
	m.clock.Heard(m.truth.Add(-time.Second)) // the next configuration
	m.off("taken back, and not behind what was kept", 0)
	m.keep()
	m.clock.Heard(m.truth.Add(10 * year))
	m.clock.Heard(m.truth.Add(-year)) // wrong the other way
	if now := m.clock.Now(); now.Before(kept) || now.After(m.truth) {
		t.Errorf("%s, and %s was kept", now, kept)
	}
	m.clock.Heard(m.truth)
	m.off("right again", 0)

	m.clock.Heard(m.truth.Add(-time.Hour)) // two configurations that overtook each other
	m.off("a little earlier", 0)
	m.trusted("after all that", Cloud)
}

// TestTrustStays: who was sure of the time once is less and less so without a time
// source, and says by how much, but goes on.
func TestTrustStays(t *testing.T) {
	m := newMachine(t)
	m.sync = Synced
	m.trusted("synchronised", NTP)
	sure := m.clock.Status().Error
	m.sync = Unsynced
	m.pass(7 * 24 * time.Hour)
	st := m.clock.Status()
	if least := 7 * 24 * 300 * time.Second / 1000; !st.Trusted || st.Source != NTP || st.Error < sure+least || st.Error > 10*time.Minute {
		t.Errorf("after a week: %+v", st)
	}
	m.keep()
	m.sync, m.offset = Synced, -time.Hour // and now it says that all of that was wrong
	if st := m.clock.Status(); st.Trusted || st.Problem == "" {
		t.Errorf("contradicted: %+v", st)
	}
	m.offset = 0
	m.trusted("agreed again", NTP)
}

// TestUnknown: where the system does not say whether its clock is right, it is
// followed, but not behind what was kept.
func TestUnknown(t *testing.T) {
	m := newMachine(t)
	m.sync = Unknown
	m.offset = time.Hour
	m.off("set ahead", time.Hour)
	m.trusted("nobody knows", None)
	m.offset = -time.Hour
	m.off("set back", -time.Hour)
	m.offset = -10 * year
	m.off("set back behind the program", m.built.Sub(m.truth))
}

// TestEdges passes the end of 32-bit time, a leap second, and a clock that has
// no boot.
func TestEdges(t *testing.T) {
	m := newMachine(t)
	m.truth = time.Date(2038, 1, 19, 3, 14, 0, 0, time.UTC)
	m.restart()
	e, at := m.event(), m.truth
	m.pass(time.Minute)
	m.sync = Synced
	m.off("after 2038-01-19", 0)
	m.when("before it", e, at, event.TimeCorrected)
	m.keep()
	m.pass(proof)
	m.keep()
	m.restart()
	m.off("kept", 0)

	m.offset = -time.Second // the second that is told twice
	m.pass(500 * time.Millisecond)
	m.off("a leap second, right behind what was kept", -500*time.Millisecond)
	again := m.event()
	m.when("in it", again, m.truth.Add(m.offset), event.TimeSynced)

	m.boot, m.sync = "", Unsynced
	m.clock = Open(Config{Path: m.path, System: m.reading, Log: slog.New(slog.DiscardHandler), Boot: "none"})
	m.clock.cfg.Boot = ""
	if e := m.event(); e.Clock != (event.Clock{}) {
		t.Errorf("without a boot: %+v", e.Clock)
	}
}

// TestDamagedFile: nothing on disk keeps a clock from going.
func TestDamagedFile(t *testing.T) {
	for name, content := range map[string]string{
		"empty": "", "rubbish": "\x00\xff", "another": `[1]`, "half": `{"floor":"2026-11-`,
		"odd": `{"floor":"2026-11-20T00:00:00Z","boots":[{"id":"x","time":"2026-11-20T00:00:00Z","upMs":-9223372036854775808,"errorMs":9223372036854775807}]}`,
	} {
		m := newMachine(t)
		if err := os.WriteFile(m.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m.log.Reset()
		m.restart()
		m.off(name, 0)
		m.clock.When(&event.Event{Clock: event.Clock{Boot: "x", Up: time.Hour}})
		if said := strings.Contains(m.log.String(), m.path); said == (name == "odd") {
			t.Errorf("%s: said %t", name, said)
		}
		m.sync = Synced
		m.keep()
		if kept, err := load(m.path); err != nil || kept.floor.IsZero() {
			t.Errorf("%s: kept %+v, %v", name, kept, err)
		}
	}
}

// TestRun has the time written down as it becomes known, and at the end.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(t)
		began := time.Now()
		m.clock = Open(Config{Path: m.path, Boot: m.boot, Log: slog.New(slog.DiscardHandler), System: func() Reading {
			up := time.Since(began)
			r := Reading{Wall: time.Now().Round(0), Up: up, Sync: Unsynced}
			if up >= time.Minute {
				r.Sync, r.Error = Synced, time.Millisecond
			}
			return r
		}})
		kept := func(what string, boots int, floor time.Duration) {
			t.Helper()
			k, err := load(m.path)
			if err != nil || len(k.boots) != boots || boots > 0 && !k.floor.Equal(began.Add(floor)) {
				t.Errorf("%s: %d boots, floor at %s, %v", what, len(k.boots), k.floor.Sub(began), err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.clock.Run(ctx) }()
		<-time.After(time.Minute)
		kept("not known", 0, 0)
		m.clock.Now()
		synctest.Wait()
		k, err := load(m.path)
		if err != nil || len(k.boots) != 1 {
			t.Errorf("known: %+v, %v", k, err)
		}
		<-time.After(2 * time.Hour)
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		kept("at the end", 1, 2*time.Hour+time.Minute)
	})
}

// TestSystem asks the real one.
func TestSystem(t *testing.T) {
	c := Open(Config{Path: filepath.Join(t.TempDir(), "clock.json"), Log: slog.New(slog.DiscardHandler)})
	before := c.Now()
	if off := time.Since(before).Abs(); off > time.Hour {
		t.Errorf("%s off", off)
	}
	if c.Now().Before(before) {
		t.Error("it goes backwards")
	}
	if bootID() != "" && c.cfg.Boot != bootID() {
		t.Errorf("boot is %q", c.cfg.Boot)
	}
}
