//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// What a relay does with those who connect.
const (
	refusing = iota // closes at once
	holding         // lets them wait
	passing         // connects them
)

// relay is a line to the broker: long, but as wide as anybody likes.
type relay struct {
	listener net.Listener
	broker   string
	oneWay   time.Duration

	up, down atomic.Int64 // bytes from and to the peer
	wg       sync.WaitGroup

	mu     sync.Mutex // guards below
	mode   int
	change chan struct{} // closed when mode changes
	first  time.Time     // when a peer was first let through
	conns  map[net.Conn]struct{}
}

func newRelay(broker string, roundTrip time.Duration) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{listener: l, broker: broker, oneWay: roundTrip / 2, change: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	r.wg.Go(r.accept)
	return r, nil
}

func (r *relay) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

func (r *relay) set(mode int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mode = mode
	close(r.change)
	r.change = make(chan struct{})
}

// begin returns when the first peer was let through; zero: none was.
func (r *relay) begin() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.first
}

func (r *relay) close() error {
	err := r.listener.Close()
	r.set(refusing)
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
	return err
}

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(c) })
	}
}

func (r *relay) enter(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
}

func (r *relay) leave(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *relay) serve(peer net.Conn) {
	r.enter(peer)
	defer r.leave(peer)
	for open := false; !open; {
		r.mu.Lock()
		mode, change := r.mode, r.change
		if mode == passing && r.first.IsZero() {
			r.first = time.Now()
		}
		r.mu.Unlock()
		switch mode {
		case refusing:
			return
		case holding:
			<-change
		default:
			open = true
		}
	}
	broker, err := (&net.Dialer{Timeout: patience}).DialContext(context.Background(), "tcp", r.broker)
	if err != nil {
		return
	}
	r.enter(broker)
	defer r.leave(broker)
	var both sync.WaitGroup
	both.Go(func() { r.pump(broker, peer, &r.up) })
	both.Go(func() { r.pump(peer, broker, &r.down) })
	both.Wait()
}

type chunk struct {
	due  time.Time
	data []byte
}

// pump carries what comes from one side to the other, each chunk at its time.
func (r *relay) pump(to, from net.Conn, count *atomic.Int64) {
	defer func() { _, _ = to.Close(), from.Close() }()
	var (
		mu    sync.Mutex // guards queue and ended
		queue []chunk
		ended bool
		news  = make(chan struct{}, 1)
		all   sync.WaitGroup
	)
	tell := func() {
		select {
		case news <- struct{}{}:
		default:
		}
	}
	if r.oneWay > 0 {
		all.Go(func() {
			for {
				mu.Lock()
				batch, over := queue, ended
				queue = nil
				mu.Unlock()
				if len(batch) == 0 {
					if over {
						return
					}
					<-news
					continue
				}
				for _, c := range batch {
					if early := time.Until(c.due); early > 0 {
						<-time.After(early)
					}
					if _, err := to.Write(c.data); err != nil {
						_ = from.Close() // ends the reader
						break
					}
				}
			}
		})
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := from.Read(buf)
		count.Add(int64(n))
		if n > 0 && r.oneWay == 0 {
			if _, failed := to.Write(buf[:n]); failed != nil {
				err = errors.Join(err, failed)
			}
		} else if n > 0 {
			mu.Lock()
			queue = append(queue, chunk{time.Now().Add(r.oneWay), append([]byte(nil), buf[:n]...)})
			mu.Unlock()
			tell()
		}
		if err != nil {
			break
		}
	}
	mu.Lock()
	ended = true
	mu.Unlock()
	tell()
	all.Wait()
}
