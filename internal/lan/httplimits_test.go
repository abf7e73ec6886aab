package lan_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestSpend: what comes over HTTP and what comes over sockets is one budget,
// and telemetry leaves a quarter of it.
func TestSpend(t *testing.T) {
	b := start(t, func(c *lanConfig) { c.MaxEventsPerAddress, c.RateWindow = 8, time.Hour })
	c := b.as(event.Waiter) // one event
	c.ask("payment_initiated", payment)
	const here = "127.0.0.1"
	for i := range 4 { // 8 less a quarter, less two
		if r := b.Spend(here, true); r != nil {
			t.Fatalf("heartbeat %d: %v", i, r)
		}
	}
	for range 2 { // refusals are not counted
		r := b.Spend(here, true)
		if r == nil || r.Status != http.StatusTooManyRequests || r.Code != "rate_limit_exceeded" || !r.Retryable {
			t.Fatalf("a heartbeat too many: %+v", r)
		}
		if each := time.Hour / 8; r.RetryAfter <= 0 || r.RetryAfter > each+time.Millisecond {
			t.Errorf("to wait %s", r.RetryAfter)
		}
	}
	if r := b.Spend(here, false); r != nil {
		t.Fatalf("a payment has to wait for heartbeats: %v", r)
	}
	if ack := c.ask("payment_initiated", payment); field(t, ack, "success") != "true" {
		t.Fatalf("a payment over a socket: %s", ack)
	}
	if r := b.Spend(here, false); r == nil {
		t.Error("the budget has no end")
	}
	checkFailure(t, c.ask("payment_initiated", payment), "Rate limit exceeded", "429")
	if r := b.Spend("127.0.0.2", true); r != nil {
		t.Errorf("another address pays for it: %v", r)
	}
	if n := b.Stats().Rejected["rate_limit_exceeded"]; n != 4 {
		t.Errorf("%d counted", n)
	}
	if r := start(t).Spend(here, false); r != nil {
		t.Errorf("without a limit: %v", r)
	}
}

// TestDenied: bad tokens over HTTP and failed handshakes of an address are one
// memory; their answers wait, a good token does not.
func TestDenied(t *testing.T) {
	b := start(t)
	const here = "127.0.0.1"
	began := time.Now()
	for range 29 {
		if r := b.Denied(t.Context(), here, auth.ErrFormat); r != nil {
			t.Fatal(r)
		}
	}
	knock := b.dial("", nil)
	knock.raw(`40{"token":"x"}`)
	knock.frame()
	if b.Stats().Delayed != 0 {
		t.Fatalf("held back within the first 30, after %s", time.Since(began))
	}
	began = time.Now()
	if r := b.Denied(t.Context(), here, auth.ErrFormat); r != nil || time.Since(began) < 90*time.Millisecond {
		t.Errorf("the next one: %v after %s", r, time.Since(began))
	}
	if r := b.Denied(t.Context(), "127.0.0.2", auth.ErrFormat); r != nil || b.Stats().Delayed != 1 {
		t.Errorf("another address pays for it: %v", r)
	}

	// A caller that hangs up waits no longer.
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	began = time.Now()
	for range 8 {
		if r := b.Denied(gone, here, auth.ErrExpired); r != nil {
			t.Fatalf("who hung up takes the place of others: %v", r)
		}
	}
	if waited := time.Since(began); waited > 15*time.Second { // they had 18 s to wait
		t.Errorf("who hung up waits %s", waited)
	}

	var group sync.WaitGroup
	began = time.Now()
	for range 32 {
		group.Go(func() {
			if r := b.Denied(context.Background(), here, auth.ErrFormat); r != nil {
				t.Errorf("within those who may wait: %v", r)
			}
		})
	}
	until(t, "all that may wait do", func() bool { return b.Stats().Delayed == 1+8+32 })
	r := b.Denied(t.Context(), here, auth.ErrFormat)
	if r == nil || r.Status != http.StatusTooManyRequests || r.RetryAfter < time.Second {
		t.Errorf("one more: %+v", r)
	}
	if r := b.Denied(t.Context(), here, auth.ErrExpired); r != nil {
		t.Errorf("who guesses nothing is not told to fetch a new token: %+v", r)
	}
	b.as(event.Waiter)
	if waited := time.Since(began); waited > time.Second { // what follows is to have three to itself
		t.Skipf("the machine took %s for that", waited)
	}
	b.stop()
	group.Wait()
	if waited := time.Since(began); waited >= 4*time.Second {
		t.Errorf("the end waited %s for answers held back", waited)
	}
	if s := b.Stats().Refused; s["bad_token"] != 29+1+1+8+32+1+1 || s["failed_handshakes"] != 1 || s["authentication"] != 1 {
		t.Errorf("counted %v", s)
	}
}

// TestGuessesOfOneNetwork: a machine takes as many addresses of its /64 as it likes.
func TestGuessesOfOneNetwork(t *testing.T) {
	b := start(t)
	for n := range 32 {
		if r := b.Denied(t.Context(), fmt.Sprintf("2001:db8:0:1::%x", n), auth.ErrFormat); r != nil {
			t.Fatal(r)
		}
	}
	for n := range 32 {
		for _, address := range []string{fmt.Sprintf("192.168.1.%d", n), fmt.Sprintf("2001:db8:0:%x::1", 0x100+n), fmt.Sprintf("::ffff:10.0.0.%d", n)} {
			if r := b.Denied(t.Context(), address, auth.ErrFormat); r != nil {
				t.Fatal(r)
			}
		}
	}
	if n := b.Stats().Delayed; n != 2 {
		t.Errorf("%d answers were held back", n)
	}
	for n := range 32 { // on one link, of one machine too
		if r := b.Denied(t.Context(), fmt.Sprintf("fe80::%x%%eth0", n), auth.ErrFormat); r != nil {
			t.Fatal(r)
		}
	}
	if n := b.Stats().Delayed; n != 4 {
		t.Errorf("%d answers were held back", n)
	}
}

// TestAStaleTerminalBesideAGuesser: behind one router, whose address a guesser has
// used up, a terminal with an old token is told to fetch a new one.
func TestAStaleTerminalBesideAGuesser(t *testing.T) {
	b := start(t)
	then, err := auth.NewVerifier(auth.Config{Venue: venue, Secret: []byte(secret)}, func() time.Time { return time.Now().Add(-3 * time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	old, err := then.Mint(auth.Grant{Subject: "w", Role: event.Waiter, Terminal: "abc"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for range 80 {
		b.dial("", nil).raw(`40{"token":"x","terminalId":"AVQD-ABC"}`)
	}
	until(t, "the address is used up", func() bool { return b.Stats().Refused["failed_handshakes"] > 0 })
	if _, answer := b.knock(`{"token":"` + old + `","terminalId":"AVQD-ABC"}`); answer != `44{"message":"Token has expired"}` {
		t.Errorf("answer %q", answer)
	}
	// A guess beside an old token is a guess.
	before := b.Stats().Refused["failed_handshakes"]
	for range 40 {
		b.dial("&token="+old, nil).raw(`40{"token":"x"}`)
	}
	until(t, "they are cut off, too", func() bool { return b.Stats().Refused["failed_handshakes"] > before })
}
