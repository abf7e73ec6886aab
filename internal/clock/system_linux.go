package clock

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bootFile = "/proc/sys/kernel/random/boot_id"

	// timesync is touched by systemd-timesyncd at each word of its server. It
	// can be seen where asking the kernel is forbidden (ProtectClock=).
	timesync = "/run/systemd/timesync/synchronized"

	// timesyncError is how far the clock may be off when timesyncd has just set
	// it: it does not say, and trusts a server that is up to 5 s away.
	timesyncError = 5 * time.Second
)

// system returns what asks the kernel.
func system() func() Reading { return ask }

func ask() Reading {
	var up unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) // there since Linux 2.6.39
	r := Reading{Wall: time.Now().Round(0), Up: time.Duration(up.Nano())}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		r.Sync, r.Error = byMark(timesync, r.Wall)
	} else {
		r.Sync, r.Error = byKernel(state, &t)
	}
	return r
}

// byKernel reads what adjtimex(2) says. A leap second to come (TIME_INS, TIME_DEL)
// or just over (TIME_WAIT) is no trouble; in it (TIME_OOP) a second is told twice.
func byKernel(state int, t *unix.Timex) (Sync, time.Duration) {
	if state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return Unsynced, 0
	}
	bound := time.Duration(t.Maxerror) * time.Microsecond
	if state == unix.TIME_OOP {
		bound += time.Second
	}
	return Synced, bound
}

// byMark reads timesyncd's mark.
func byMark(path string, now time.Time) (Sync, time.Duration) {
	info, err := os.Stat(path)
	if err != nil {
		return Unknown, 0
	}
	return Synced, timesyncError + time.Duration(slew*float64(now.Sub(info.ModTime()).Abs()))
}

func bootID() string {
	raw, err := os.ReadFile(bootFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
