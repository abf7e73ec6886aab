package daemon

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClockDoesNotRunBehindTheCloud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disciplined := false
		c := clock{synchronised: func() bool { return disciplined }}
		check := func(what string, ahead time.Duration) {
			t.Helper()
			if got := time.Until(c.Now()); got != ahead {
				t.Errorf("%s: %s ahead of the system, want %s", what, got, ahead)
			}
		}
		check("nothing said", 0)
		c.heard(time.Time{})
		check("no time said", 0)
		c.heard(time.Now().Add(-time.Hour))
		check("an old message", 0)
		c.heard(time.Now().Add(time.Hour))
		check("the system is behind", time.Hour)
		<-time.After(time.Minute)
		check("a minute later", time.Hour)
		disciplined = true
		check("the system knows better", 0)
	})
}
