package boxtest

import (
	"context"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// TestLogStaysCalm has strangers hammer at the door and a client come and go:
// the log grows by some lines a minute, and says how much it was.
func TestLogStaysCalm(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a minute and a half")
	}
	box := StartBox(t, BoxConfig{})
	began := time.Now()
	const strangers, each, visits = 40, 10, 150
	var all sync.WaitGroup
	for n := range strangers {
		all.Go(func() {
			a := box.attacker(n, &strings.Builder{})
			for range each {
				a.do(http.MethodGet, "/api/v1/status", http.Header{"Authorization": {"Bearer eyJ.bad.token"}}, "")
			}
		})
	}
	token := box.Token(event.Cashier, "c1", "T1")
	for range visits {
		c, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": token}})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
	all.Wait()
	// Once a minute is over, what was held back is told with the next line.
	told := regexp.MustCompile(`msg="message repeated" message="([^"]+)" times=(\d+)`)
	var lines string
	var asked time.Time
	Eventually(t, 3*time.Minute, "it says how much it was", func() bool {
		if time.Since(asked) < time.Second {
			return false
		}
		asked = time.Now()
		c, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": token}})
		if err == nil {
			_ = c.Close()
		}
		d, err := box.client.Diagnosis(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lines = d.Log
		return strings.Contains(lines, `message="client connected"`)
	})
	minutes := int(time.Since(began)/time.Minute) + 1
	held := map[string]int{}
	for _, m := range told.FindAllStringSubmatch(lines, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		held[m[1]] += n
	}
	for message, least := range map[string]int{"client connected": visits, "token refused over HTTP": 31} {
		passed := strings.Count(lines, `msg="`+message+`"`)
		t.Logf("%s: %d lines, %d held back", message, passed, held[message])
		if passed > 30*minutes+30 || passed+held[message] < least {
			t.Errorf("%s: %d lines in %d minutes, %d held back", message, passed, minutes, held[message])
		}
	}
	if n := strings.Count(lines, "\n"); n > 200*minutes {
		t.Errorf("%d lines in %d minutes", n, minutes)
	}
}

// What a profile tells, memory included, is for whoever may open the box's
// socket: nobody on the LAN, whatever token.
func TestProfilesOnTheSocketAlone(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	socket := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", box.Socket())
	}}}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=2", "/debug/pprof/profile?seconds=1", "/api/v1/diagnosis"} {
		for _, token := range []string{"", box.Token(event.SuperAdmin, "root", "")} {
			if status, body := box.Do(http.MethodGet, path, token, ""); status != http.StatusForbidden || strings.Contains(body, "goroutine ") {
				t.Errorf("%s over the LAN with token %t: %d %.100s", path, token != "", status, body)
			}
		}
		resp, err := socket.Get("http://box" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s on the socket: %s", path, resp.Status)
		}
	}
}
