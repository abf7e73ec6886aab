package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKernel lists what adjtimex(2) says.
func TestKernel(t *testing.T) {
	for name, c := range map[string]struct {
		state  int
		status int32
		most   int64 // µs
		sync   Sync
		bound  time.Duration
	}{
		"disciplined":                      {unix.TIME_OK, unix.STA_PLL, 31_000, Synced, 31 * time.Millisecond},
		"right now":                        {unix.TIME_OK, unix.STA_PLL, 0, Synced, 0},
		"a second will be inserted":        {unix.TIME_INS, unix.STA_PLL | unix.STA_INS, 1000, Synced, time.Millisecond},
		"a second will be deleted":         {unix.TIME_DEL, unix.STA_PLL | unix.STA_DEL, 1000, Synced, time.Millisecond},
		"in the second that is told twice": {unix.TIME_OOP, unix.STA_PLL | unix.STA_INS, 1000, Synced, 1001 * time.Millisecond},
		"after it":                         {unix.TIME_WAIT, unix.STA_PLL | unix.STA_INS, 1000, Synced, time.Millisecond},
		"never set":                        {unix.TIME_ERROR, unix.STA_UNSYNC, 16_000_000, Unsynced, 0},
		"its source is gone":               {unix.TIME_ERROR, unix.STA_PLL | unix.STA_UNSYNC, 16_000_000, Unsynced, 0},
		"a second was to be inserted, and its source is gone": {unix.TIME_INS, unix.STA_INS | unix.STA_UNSYNC, 16_000_000, Unsynced, 0},
		"the device says it is wrong":                         {unix.TIME_ERROR, unix.STA_PLL | unix.STA_CLOCKERR, 1000, Unsynced, 0},
	} {
		var x unix.Timex
		x.Status = c.status
		setMost(&x, c.most)
		if sync, bound := byKernel(c.state, &x); sync != c.sync || bound != c.bound {
			t.Errorf("%s: %v, %s", name, sync, bound)
		}
	}
}

// setMost sets a field that is as wide as the machine's words.
func setMost(x *unix.Timex, most int64) {
	x.Maxerror = 0
	for range most / 1000 {
		x.Maxerror += 1000
	}
}

// TestTimesyncd: the older its mark, the less is known; a clock that was set back
// behind it makes no exception.
func TestTimesyncd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "synchronized")
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	if sync, _ := byMark(path, now); sync != Unknown {
		t.Errorf("without a mark it is %v", sync)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{0, time.Hour, -time.Hour} {
		if err := os.Chtimes(path, time.Time{}, now.Add(-age)); err != nil {
			t.Fatal(err)
		}
		if sync, bound := byMark(path, now); sync != Synced || bound != timesyncError+age.Abs()/2000 {
			t.Errorf("%s old: %v, %s", age, sync, bound)
		}
	}
}
