//go:build linux

package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// listener is the subscriber at the broker.
type listener struct {
	*client
	confirm bool // be the back-end
	wg      sync.WaitGroup

	mu      sync.Mutex // guards below
	have    []bool     // by sequence
	through int        // everything up to it is here
	want    int        // the last event of the backlog
	done    chan struct{}
	begun   sync.Once
	drains  chan struct{} // closed at the first event of the backlog
	doneAt  time.Time
	live    map[int]time.Time // when the first copy of a live event came
	err     error
}

const (
	topics     = "avoqado/v1/venues/" + venue + "/boxes/b1/"
	liveMark   = `"paymentId":"live_`
	numberMark = `"sequence":"`
	epochMark  = `"epoch":"`
	digits     = 20
)

func listen(broker string, want int, confirm bool) (*listener, error) {
	c, err := dialBroker(broker, "subscriber")
	if err != nil {
		return nil, err
	}
	l := &listener{client: c, confirm: confirm, want: want, done: make(chan struct{}), drains: make(chan struct{}), live: make(map[int]time.Time)}
	if err := c.subscribe(topics+"events", topics+"events/gzip", topics+"events/live"); err != nil {
		return nil, errors.Join(err, c.conn.Close())
	}
	l.wg.Go(func() {
		err := l.serve()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = err
	})
	return l, nil
}

func (l *listener) close() error {
	err := l.conn.Close()
	l.wg.Wait()
	return err
}

func (l *listener) serve() error {
	for {
		kind, body, err := l.read()
		if err != nil {
			return err
		}
		if kind != publishPacket {
			continue
		}
		topic, payload, err := l.message(body)
		if err != nil {
			return err
		}
		if strings.HasSuffix(topic, "/gzip") {
			z, err := gzip.NewReader(bytes.NewReader(payload))
			if err != nil {
				return err
			}
			if payload, err = io.ReadAll(z); err != nil {
				return err
			}
		}
		l.seen(payload, time.Now())
		if strings.HasSuffix(topic, "/live") {
			continue
		}
		ack, err := l.take(payload)
		if err == nil && l.confirm && ack != nil {
			err = errors.Join(l.publish(topics+"acks", ack), l.flush())
		}
		if err != nil {
			return err
		}
	}
}

// seen notes which live events a message brings.
func (l *listener) seen(payload []byte, now time.Time) {
	for rest := payload; ; {
		i := bytes.Index(rest, []byte(liveMark))
		if i < 0 {
			return
		}
		rest = rest[i+len(liveMark):]
		end := bytes.IndexByte(rest, '"')
		n, err := strconv.Atoi(string(rest[:max(end, 0)]))
		if err != nil {
			continue
		}
		l.mu.Lock()
		if _, known := l.live[n]; !known {
			l.live[n] = now
		}
		l.mu.Unlock()
	}
}

// take enters the events of a message and returns what a back-end says of it.
func (l *listener) take(payload []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := payload; ; {
		i := bytes.Index(rest, []byte(numberMark))
		if i < 0 {
			break
		}
		rest = rest[i+len(numberMark):]
		n, err := strconv.Atoi(string(rest[:min(digits, len(rest))]))
		if err != nil {
			return nil, fmt.Errorf("read sequence: %w", err)
		}
		for len(l.have) <= n {
			l.have = append(l.have, make([]bool, max(n+1-len(l.have), 1<<16))...)
		}
		l.have[n] = true
		l.begun.Do(func() { close(l.drains) })
	}
	for l.through+1 < len(l.have) && l.have[l.through+1] {
		l.through++
	}
	if l.through >= l.want && l.doneAt.IsZero() {
		l.doneAt = time.Now()
		close(l.done)
	}
	_, epoch, ok := bytes.Cut(payload, []byte(epochMark))
	if !ok {
		return nil, nil
	}
	epoch, _, _ = bytes.Cut(epoch, []byte{'"'})
	return fmt.Appendf(nil, `{"epoch":%q,"through":%d}`, epoch, l.through), nil
}

// await returns when the last event of the backlog came.
func (l *listener) await(limit time.Duration) (time.Time, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.doneAt.IsZero() {
		return time.Time{}, errors.Join(fmt.Errorf("%d of %d events came within %v", l.through, l.want, limit), l.err)
	}
	return l.doneAt, nil
}

// arrived returns when a live event came.
func (l *listener) arrived(n int) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.live[n]
	return at, ok
}
