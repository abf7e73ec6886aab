package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestWear(t *testing.T) {
	const year = 365.25 * 24 * float64(time.Hour)
	w := wear(1<<30, 1000, 500, time.Duration(year/10), 100<<30)
	if w.BytesPerEvent != 1<<30/500.0 || w.FsyncsPerEvent != 2 {
		t.Errorf("%+v", w)
	}
	if want := 100.0 / 10 / fileSystemShare; w.LifeYears < want*0.999 || w.LifeYears > want*1.001 {
		t.Errorf("%f years, want %f", w.LifeYears, want)
	}
	for name, w := range map[string]Wear{
		"too early":    wear(1<<30, 1000, 500, forecastAfter-1, 100<<30),
		"no endurance": wear(1<<30, 1000, 500, forecastAfter, 0),
		"nothing yet":  wear(0, 0, 0, forecastAfter, 100<<30),
	} {
		if w.LifeYears != 0 || name == "nothing yet" && w != (Wear{}) {
			t.Errorf("%s: %+v", name, w)
		}
	}
}

// TestWearIsCounted compares the figures with what the files say.
func TestWearIsCounted(t *testing.T) {
	o := Options{SegmentBytes: 256 << 10, Now: small.Now}
	b := start(t, newJournal(t, o), o)
	before := b.Stats()
	for n := 1; n <= 100; n++ {
		b.append(n)
	}
	one := b.Stats()
	b.fill(101, 3000)
	all := b.Stats()
	if perEvent := float64(one.Fsyncs-before.Fsyncs) / 100; perEvent < 2 || perEvent > 3 {
		t.Errorf("%f fsyncs per lone event", perEvent)
	}
	if one.BytesWritten-before.BytesWritten < 100*3*pageSize {
		t.Errorf("%d bytes for 100 lone events", one.BytesWritten-before.BytesWritten)
	}
	// Divided as Wear does: a quotient times its divisor is not always the dividend.
	if all.BytesPerEvent >= one.BytesPerEvent || all.BytesPerEvent != float64(all.BytesWritten)/float64(all.Events) {
		t.Errorf("%f bytes per event, then %f; %d bytes for %d events",
			one.BytesPerEvent, all.BytesPerEvent, all.BytesWritten, all.Events)
	}
	if all.Segments < 2 {
		t.Errorf("%d segments", all.Segments)
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watch
		if !w.since(time.Now()).IsZero() {
			t.Error("something is under way that never began")
		}
		began := time.Now()
		w.start()
		if !w.since(began.Add(patience - 1)).IsZero() {
			t.Error("impatient")
		}
		if since := w.since(began.Add(patience)); !since.Equal(began) {
			t.Errorf("since %v, want %v", since, began)
		}
		w.stop()
		if !w.since(began.Add(time.Hour)).IsZero() {
			t.Error("still under way")
		}
	})
}

// TestStuckIsSaid pretends a commit that began a minute ago: Stats says so, and
// that nothing is wrong yet.
func TestStuckIsSaid(t *testing.T) {
	b := start(t, newJournal(t, Options{}), Options{})
	b.append(1)
	for _, w := range []*watch{&b.commits, &b.meta.commits} {
		w.began.Store(time.Now().Add(-time.Minute).UnixNano())
		if s := b.Stats(); time.Since(s.StuckSince) < time.Minute || s.StuckSince.IsZero() || s.Err != nil {
			t.Fatalf("stats %+v", s)
		}
		w.stop()
	}
	b.append(2)
	if s := b.Stats(); !s.StuckSince.IsZero() {
		t.Fatalf("stats %+v", s)
	}
}

func TestAccessErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "a", "b")
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"read-only": {&fs.PathError{Op: "open", Path: missing, Err: syscall.EROFS}, []string{dir, "read-only", "remount,rw"}},
		"owner":     {&fs.PathError{Op: "open", Path: missing, Err: syscall.EACCES}, []string{dir, "belongs to user " + userName(os.Geteuid()), "runs as user", "chown"}},
		"no path":   {errors.Join(errors.New("x"), syscall.EPERM), []string{"/ belongs to user " + userName(0)}},
	} {
		at := "/"
		err := explain(c.err, at)
		access, ok := errors.AsType[*AccessError](err)
		if !ok || !errors.Is(err, c.err) || access.Path == missing {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, word := range c.want {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not say %q", name, err, word)
			}
		}
		if again := explain(err, at); !errors.Is(again, err) || len(again.Error()) != len(err.Error()) {
			t.Errorf("%s: explained twice", name)
		}
	}
	for _, err := range []error{nil, syscall.EIO, syscall.ENOSPC, ErrDamaged} {
		if got := explain(err, dir); !errors.Is(got, err) || got != nil && got.Error() != err.Error() {
			t.Errorf("%v became %v", err, got)
		}
	}
}

// TestWrongOwner opens a journal that another user owns.
func TestWrongOwner(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open everything")
	}
	dir := newJournal(t, Options{})
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Chmod(dir, 0o700) }()
	if err := os.Remove(filepath.Join(dir, lockName)); err == nil {
		t.Skip("permissions do not hold here")
	}
	if err := os.Chmod(filepath.Join(dir, lockName), 0); err != nil {
		t.Fatal(err)
	}
	_, err := Open(dir, Options{})
	if access, ok := errors.AsType[*AccessError](err); !ok || access.ReadOnly {
		t.Fatalf("open: %v", err)
	}
}
