package lan

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// Here is what bounds the HTTP API by the address that asks: the same budget
// and the same memory of failed logins as for sockets.

// Spend counts an event that comes over HTTP against the budget of its address.
// It returns nil, or a refusal that says when to try again. Safe for concurrent
// use.
func (s *Server) Spend(address string, telemetry bool) *event.Refusal {
	now := time.Now()
	all := budget{perWindow: s.cfg.MaxEventsPerAddress, window: s.cfg.RateWindow}
	wait := s.addresses.take(address, all, now, telemetry)
	if wait == 0 {
		return nil
	}
	r := tooMany(wait)
	s.counters.reject(r.Code)
	if s.addresses.remind(address, now) {
		s.log.Warn("program sends too much over HTTP", "address", address)
	}
	return r
}

// remind reports whether the refusals at an address begin a new spell.
func (a *addresses) remind(host string, now time.Time) (first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.entry(host, now)
	first = now.Sub(e.limited) >= spell
	e.limited = now
	return first
}

// Denied notes that a request showed a bad token and returns when it may be
// answered: at once, or after as long as failed handshakes of its address are
// made to wait, unless ctx ends or the server closes before. If too many wait
// already, it returns at once with the refusal to answer instead, or with nil for
// [auth.ErrExpired]: who has only to fetch a new token is told so. Safe for
// concurrent use.
func (s *Server) Denied(ctx context.Context, address string, why error) *event.Refusal {
	network := networkOf(address)
	delay, answer, first := s.addresses.fail(network, time.Now())
	s.counters.refuse(reasonToken)
	level := slog.LevelDebug // a program that tries for ever fills no log
	if first {
		level = slog.LevelInfo
	}
	s.log.Log(ctx, level, "token refused over HTTP", "address", address, "reason", why.Error())
	switch {
	case !answer && !errors.Is(why, auth.ErrExpired):
		s.counters.refuse(reasonFailures)
		return tooMany(maxDelay)
	case delay > 0:
		defer s.addresses.done(network)
		s.counters.delayed.Add(1)
		s.listener.wait(ctx, delay)
	}
	return nil
}
