//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// figures are what one run of one peer gave, by the keys of the table's rows.
type figures map[string]float64

const (
	connecting = 50 // clients that connect at once
	senders    = 10 // clients that send, under load
	window     = 64 // events under way at once, under load: what coalescing needs
	modest     = 10_000
	durables   = 51  // clients of the durable job: each event goes to the 50 others
	steady     = 100 // payments a second, in the steady state
	patience   = 10 * time.Second
)

// probe measures one server.
type probe struct {
	s    settings
	srv  *server
	loop *loop
	f    figures
}

// measurePeer starts a peer, has it do everything, and stops it.
func measurePeer(ctx context.Context, s settings, p peer) (figures, error) {
	f := figures{}
	if p.lan && (s.only != "durable") {
		if err := withServer(ctx, s, p, f, (*probe).lan); err != nil {
			return nil, err
		}
	}
	if p.durable && s.wants("durable") { // in a new process: memory of 2,000 clients is not part of it
		if err := withServer(ctx, s, p, f, (*probe).durableJob); err != nil {
			return nil, err
		}
	}
	return f, ctx.Err()
}

func withServer(ctx context.Context, s settings, p peer, f figures, work func(*probe, context.Context) error) error {
	srv, err := startServer(ctx, s, p)
	if err != nil {
		return err
	}
	l, err := newLoop(srv.addr)
	if err == nil {
		err = errors.Join(work(&probe{s, srv, l, f}, ctx), l.close())
	}
	return errors.Join(err, srv.stop())
}

// lan does all but the durable job.
func (p *probe) lan(ctx context.Context) error {
	if p.s.wants("connect") {
		if err := p.growth(); err != nil {
			return err
		}
	}
	if p.s.wants("fanout") {
		if err := p.connect(2000); err != nil {
			return err
		}
		for _, n := range []int{2000, 500, 100} {
			if err := p.fanoutAt(n); err != nil {
				return fmt.Errorf("%d sockets: %w", n, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	if p.s.wants("acks") {
		if err := p.connect(100); err != nil {
			return err
		}
		for _, n := range []int{100, 1} {
			if err := p.acksAt(n); err != nil {
				return fmt.Errorf("answers to %d clients: %w", n, err)
			}
		}
	}
	return nil
}

// growth connects more and more clients, and sees what they take.
func (p *probe) growth() error {
	if err := p.connect(1); err != nil { // what the first one loads is not a client's
		return err
	}
	empty, err := p.memory()
	if err != nil {
		return err
	}
	for _, n := range []int{500, 2000} {
		if err := p.connectRated(n); err != nil {
			return err
		}
		full, err := p.memory()
		if err != nil {
			return err
		}
		p.f[key("rss", n)] = (full - empty) / float64(n-1)
	}
	return nil
}

// memory returns what the server holds once it has given back what it gives
// back late.
func (p *probe) memory() (float64, error) {
	if err := p.rest(); err != nil {
		return 0, err
	}
	if err := p.loop.run(p.s.settle, nil, nil); err != nil {
		return 0, err
	}
	return p.srv.rss()
}

func key(what string, n int) string { return fmt.Sprintf("%s %d", what, n) }

// connect adds clients until there are n.
func (p *probe) connect(n int) error {
	l := p.loop
	base := l.ready - len(l.clients) // all that are there are ready
	err := l.run(patience*3, func() bool { return l.ready-base >= n }, func() (time.Duration, error) {
		for len(l.clients) < n && len(l.clients)-(l.ready-base) < connecting {
			if err := l.start(); err != nil {
				return 0, err
			}
		}
		return time.Second, nil
	})
	if err == nil && l.ready-base < n {
		err = fmt.Errorf("only %d of %d clients connected", l.ready-base, n)
	}
	return err
}

func (p *probe) connectRated(n int) error {
	before, began := len(p.loop.clients), time.Now()
	cpu, err := p.srv.cpu()
	if err != nil {
		return err
	}
	if err := p.connect(n); err != nil {
		return err
	}
	after, err := p.srv.cpu()
	added := float64(n - before)
	p.f[key("connect", n)] = added / time.Since(began).Seconds()
	p.f[key("connect cpu", n)] = micros(after-cpu) / added
	return err
}

// rest waits until the server has nothing left to do.
func (p *probe) rest() error {
	const slice, quiet = 100 * time.Millisecond, 2 * time.Millisecond
	end := time.Now().Add(patience)
	before, err := p.srv.cpu()
	for err == nil && time.Now().Before(end) {
		if err = p.loop.run(slice, nil, nil); err != nil {
			break
		}
		var now time.Duration
		if now, err = p.srv.cpu(); now-before < quiet {
			break
		}
		before = now
	}
	return err
}

// interval is a piece of a run that was measured.
type interval struct {
	elapsed, cpu     time.Duration
	own              time.Duration // CPU of the load itself
	delivered, acked float64
}

// timed runs work for the time of a warm-up, then for that of a measurement.
func (p *probe) timed(duration time.Duration, work func() (time.Duration, error)) (interval, error) {
	l := p.loop
	if err := l.run(p.s.warm, nil, work); err != nil {
		return interval{}, err
	}
	cpu, err := p.srv.cpu()
	if err != nil {
		return interval{}, err
	}
	own, err := cpuTime(ownClock)
	if err != nil {
		return interval{}, err
	}
	began, delivered, acked := time.Now(), l.delivered, l.acked
	l.took, l.ackTook, l.keep = l.took[:0], l.ackTook[:0], true
	err = l.run(duration, nil, work)
	l.keep = false
	i := interval{elapsed: time.Since(began), delivered: float64(l.delivered - delivered), acked: float64(l.acked - acked)}
	if err != nil {
		return i, err
	}
	after, err := p.srv.cpu()
	if err != nil {
		return i, err
	}
	ownAfter, err := cpuTime(ownClock)
	i.cpu, i.own = after-cpu, ownAfter-own
	if err == nil && i.delivered+i.acked == 0 {
		err = errors.New("server does not answer")
	}
	return i, err
}

// drain waits for the rest of what was sent: that many copies, and not one more.
func (p *probe) drain(copies int) error {
	l := p.loop
	if err := l.run(patience, func() bool { return l.delivered >= copies }, nil); err != nil {
		return err
	}
	if err := p.rest(); err != nil {
		return err
	}
	if l.delivered != copies {
		return fmt.Errorf("%d copies came instead of %d", l.delivered, copies)
	}
	return nil
}

// fanoutAt leaves n clients, and has events told to all of them: as fast as the
// server can, then at a rate that it hardly notices.
func (p *probe) fanoutAt(n int) error {
	l := p.loop
	if err := l.shrink(n); err != nil {
		return err
	}
	if err := p.rest(); err != nil {
		return err
	}
	for i := range senders {
		l.clients[i].message = logMessage(i)
	}

	sent, base := 0, l.delivered
	load, err := p.timed(p.s.duration, func() (time.Duration, error) {
		for sent*n < l.delivered-base+(window-1)*n {
			if err := l.send(l.clients[sent%senders], 0); err != nil {
				return 0, err
			}
			sent++
		}
		return time.Second, nil
	})
	if err != nil {
		return err
	}
	p.f[key("load/s", n)] = load.delivered / load.elapsed.Seconds()
	p.f[key("load cpu", n)] = micros(load.cpu) / load.delivered
	p.f[key("load busy", n)] = 100 * load.cpu.Seconds() / load.elapsed.Seconds()
	p.f[key("load own", n)] = 100 * load.own.Seconds() / load.elapsed.Seconds()
	p.f[key("load p50", n)] = percentile(l.took, 0.5)
	p.f[key("load p99", n)] = percentile(l.took, 0.99)
	if err := p.drain(base + sent*n); err != nil {
		return err
	}

	light, err := p.timed(p.s.duration, paced(l, float64(modest)/float64(n), func() error {
		sent++
		return l.send(l.clients[0], 0)
	}))
	if err != nil {
		return err
	}
	p.f[key("modest cpu", n)] = micros(light.cpu) / light.delivered
	p.f[key("modest p50", n)] = percentile(l.took, 0.5)
	p.f[key("modest p99", n)] = percentile(l.took, 0.99)
	return p.drain(base + sent*n)
}

// acksAt leaves n clients, each of which sends as soon as it was answered.
func (p *probe) acksAt(n int) error {
	l := p.loop
	if err := l.shrink(n); err != nil {
		return err
	}
	if err := p.rest(); err != nil {
		return err
	}
	for i, c := range l.clients {
		c.message = heartbeatMessage(i)
	}
	// The first heartbeat of a terminal is told to all, the next ones are not.
	all := func() error {
		for _, c := range l.clients {
			if err := l.send(c, 0); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(all(), p.rest()); err != nil {
		return err
	}
	l.onAck = func(c *client) error { return l.send(c, 0) }
	defer func() { l.onAck = nil }()
	if err := all(); err != nil {
		return err
	}
	turns, err := p.timed(p.s.duration, nil)
	if err != nil {
		return err
	}
	p.f[key("ack/s", n)] = turns.acked / turns.elapsed.Seconds()
	p.f[key("ack cpu", n)] = micros(turns.cpu) / turns.acked
	p.f[key("ack p50", n)] = percentile(l.ackTook, 0.5)
	p.f[key("ack p99", n)] = percentile(l.ackTook, 0.99)
	l.onAck = nil
	return l.run(p.s.warm, nil, nil) // the last answers
}

// durableJob has every client send payments, as fast as they are answered, then
// one of them at a steady rate.
func (p *probe) durableJob(_ context.Context) error {
	l := p.loop
	if err := p.connect(durables); err != nil {
		return err
	}
	if err := p.rest(); err != nil {
		return err
	}
	for i, c := range l.clients {
		c.message = paymentMessage(i)
	}

	// A server that answers faster than it tells the others is not helped by it.
	const others = durables - 1
	sent, idle := 0, make([]*client, 0, durables)
	idle = append(idle, l.clients...)
	l.onAck = func(c *client) error { idle = append(idle, c); return nil }
	load, err := p.timed(p.s.duration, func() (time.Duration, error) {
		for len(idle) > 0 && sent*others < l.delivered+2*durables*others {
			c := idle[0]
			idle = append(idle[:0], idle[1:]...)
			sent++
			if err := l.send(c, sent); err != nil {
				return 0, err
			}
		}
		return time.Second, nil
	})
	if err != nil {
		return err
	}
	p.f["durable/s"] = load.delivered / others / load.elapsed.Seconds()
	p.f["durable cpu"] = micros(load.cpu) / (load.delivered / others)
	p.f["durable load p99"] = percentile(l.ackTook, 0.99)
	if err := p.drain(sent * others); err != nil {
		return err
	}

	l.onAck = nil
	if _, err := p.timed(p.s.steady, paced(l, steady, func() error {
		sent++
		return l.send(l.clients[sent%durables], sent)
	})); err != nil {
		return err
	}
	p.f["durable p50"] = percentile(l.ackTook, 0.5)
	p.f["durable p99"] = percentile(l.ackTook, 0.99)
	p.f["durable told p99"] = percentile(l.took, 0.99)
	return p.drain(sent * others)
}

// paced makes work of doing something at a rate. What falls behind is caught up
// with: a pause of the server does not lower the rate.
func paced(l *loop, perSecond float64, do func() error) func() (time.Duration, error) {
	period := time.Duration(float64(time.Second) / perSecond)
	next := l.clock()
	return func() (time.Duration, error) {
		for next <= l.clock() {
			if err := do(); err != nil {
				return 0, err
			}
			next += int64(period)
		}
		return time.Duration(next - l.clock()), nil
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
