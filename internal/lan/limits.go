package lan

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// budget says how many events may come: perWindow at once, and as many again
// in each window, handed back evenly. A fixed window would let the same through,
// but whoever has used it up would wait for its end, up to a quarter of an hour
// with the usual settings; here the next event is due after window/perWindow.
type budget struct {
	perWindow int // 0: no limit
	window    time.Duration
}

// each is the time after which one event is handed back.
func (b budget) each() time.Duration { return max(1, b.window/time.Duration(b.perWindow)) }

// spent is what is left of a budget, as the instant from which on it is whole
// again. The zero value is a whole one.
type spent struct{ until time.Time }

// take uses up one event and returns 0, or returns when to try again. A quarter
// of the budget is kept from telemetry, so that a storm of logs never makes a
// payment wait.
func (s *spent) take(b budget, now time.Time, telemetry bool) time.Duration {
	if b.perWindow == 0 {
		return 0
	}
	most := b.perWindow - 1
	if telemetry {
		most -= b.perWindow / 4
	}
	until := s.until
	if until.Before(now) {
		until = now
	}
	if wait := until.Sub(now) - time.Duration(most)*b.each(); wait > 0 {
		return wait
	}
	s.until = until.Add(b.each())
	return 0
}

// putBack undoes the last take.
func (s *spent) putBack(b budget) {
	if b.perWindow > 0 {
		s.until = s.until.Add(-b.each())
	}
}

// spell is how far apart refusals are that are announced each.
const spell = time.Minute

const (
	maxAddresses = 1024 // remembered at once

	freeFailures  = 30                     // failed handshakes of an address answered at once
	failureMemory = time.Minute            // without another one, all are forgotten
	firstDelay    = 100 * time.Millisecond // of the next answer; each one after it takes twice as long
	maxDelay      = 4 * time.Second        // below ConnectTimeout, so that the answer is still read
	maxDelayed    = 32                     // answers of one address held back at once
)

// addresses is what is known of the peers' addresses. Behind a router in NAT
// mode a whole venue has one, so nothing here may keep a good client out.
type addresses struct {
	mu   sync.Mutex // guards below
	seen map[string]*address
}

type address struct {
	events   spent
	failures int       // handshakes, and HTTP requests with a bad token, one after the other
	failed   time.Time // the last of them
	delayed  int       // answers held back now
	limited  time.Time // when an HTTP request was last refused
}

// networkOf returns whose guesses, and whose transports without a session, count
// together: an address of IPv4, and all of a /64 of IPv6, in which one machine may take
// as many as it likes (RFC 4862). Budgets go by address: the whole venue may be in one
// /64, as behind a router.
func networkOf(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() && !a.Is4In6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return host
}

// entry returns what is known of an address, made if need be. The lock is held.
func (a *addresses) entry(host string, now time.Time) *address {
	e := a.seen[host]
	if e == nil {
		if len(a.seen) >= maxAddresses {
			a.purge(now)
		}
		e = &address{}
		a.seen[host] = e
	}
	return e
}

// purge forgets the addresses that have nothing against them, or all if there
// is none: a thousand misbehaving addresses are not stopped by counting.
func (a *addresses) purge(now time.Time) {
	for host, e := range a.seen {
		if e.delayed == 0 && now.Sub(e.failed) >= failureMemory && !e.events.until.After(now) {
			delete(a.seen, host)
		}
	}
	if len(a.seen) >= maxAddresses {
		clear(a.seen)
	}
}

// take counts one event of a client at the address; see [spent.take].
func (a *addresses) take(host string, b budget, now time.Time, telemetry bool) time.Duration {
	if b.perWindow == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.entry(host, now).events.take(b, now, telemetry)
}

// fail notes a failed handshake. It returns how long to hold the answer back,
// and whether to give one at all: those beyond maxDelayed get none. first says
// that it is the first failure in a while. Whoever is to wait calls done after.
func (a *addresses) fail(host string, now time.Time) (delay time.Duration, answer, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.entry(host, now)
	if now.Sub(e.failed) >= failureMemory {
		e.failures = 0
	}
	e.failures++
	e.failed = now
	over := e.failures - freeFailures
	if over <= 0 {
		return 0, true, e.failures == 1
	}
	if e.delayed >= maxDelayed {
		return 0, false, false
	}
	e.delayed++
	return min(maxDelay, firstDelay<<min(over-1, 10)), true, false
}

// done ends a delay.
func (a *addresses) done(host string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e := a.seen[host]; e != nil && e.delayed > 0 {
		e.delayed--
	}
}

// limit counts an event against the budgets of its socket and of its address.
// What is refused is not counted, and nothing is cut off: the sender is told
// when to try again, in the ack, as error, and once per spell as the event that
// the existing system declares for it.
func (sess *session) limit(name string) *event.Refusal {
	s, now := sess.server, time.Now()
	row, ok := event.Lookup(event.Kind(name))
	telemetry := ok && row.Volatile
	own := budget{perWindow: s.cfg.MaxEventsPerWindow, window: s.cfg.RateWindow}
	wait := sess.events.take(own, now, telemetry)
	if wait == 0 {
		all := budget{perWindow: s.cfg.MaxEventsPerAddress, window: s.cfg.RateWindow}
		if wait = s.addresses.take(sess.address, all, now, telemetry); wait > 0 {
			sess.events.putBack(own)
		}
	}
	if wait == 0 {
		return nil
	}
	r := tooMany(wait)
	if now.Sub(sess.limited) >= spell {
		sess.emit("rate_limit_exceeded", failure(sess.correlationID, r))
		s.log.Warn("client sends too much", "sid", sess.sid, "user", sess.grant.Subject,
			"terminal", sess.terminal, "address", sess.address)
	}
	sess.limited = now
	return r
}

// tooMany refuses for now what is beyond a budget.
func tooMany(wait time.Duration) *event.Refusal {
	r := event.RefuseForNow("rate_limit_exceeded", "Rate limit exceeded", wait+time.Millisecond) // rounded up
	r.Status = http.StatusTooManyRequests
	return r
}

// maxSocketsPerDevice is how many sockets a terminal may have. It needs one; the
// others are those it lost and the box has not missed yet.
const maxSocketsPerDevice = 4

// makeRoom closes the oldest socket of a terminal that has too many. The newest
// always gets in: a terminal that lost its network comes back while the box
// still takes its old sockets for alive.
func (s *Server) makeRoom(sess *session) {
	if sess.terminal == "" {
		return
	}
	n, oldest := 0, sess
	for _, other := range s.live() {
		if other.terminal != sess.terminal || other.evicted.Load() {
			continue
		}
		n++
		if other.connectedAt.Before(oldest.connectedAt) {
			oldest = other
		}
	}
	if n > maxSocketsPerDevice && oldest.evicted.CompareAndSwap(false, true) {
		s.counters.refuse(reasonDevice)
		s.jobs.add(oldest.link.drop)
	}
}

// vacate notes that the transport has no session any more.
func (l *link) vacate() {
	l.silent.Store(time.Now().UnixMilli())
	l.lonely(true)
	l.busy.Store(false)
}

// dropSilent closes the transports that have had no session for ConnectTimeout:
// their clients never sent CONNECT, were refused, or sent DISCONNECT.
func (s *Server) dropSilent() {
	since := time.Now().Add(-s.cfg.ConnectTimeout).UnixMilli()
	s.links.Range(func(_, entry any) bool {
		l := entry.(*link)
		if l.silent.Load() <= since && l.busy.CompareAndSwap(false, true) {
			s.counters.refuse(reasonSilent)
			s.jobs.add(l.drop)
		}
		return true
	})
}
