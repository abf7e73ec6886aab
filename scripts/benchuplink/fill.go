//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

const (
	venue      = "v1"
	secret     = "a-secret-for-measuring-0123456789"
	eventBytes = 300 // of a payload
)

// sale is the n-th event of the backlog, the same one each time.
func sale(n int) *event.Event {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	id := fmt.Sprintf("pay_%016x", r.Uint64())
	correlation := fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Int64N(1<<48))
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC).Add(time.Duration(n) * 731 * time.Millisecond)
	payload := fmt.Appendf(nil, `{"paymentId":%q,"orderId":"order_%05d","tableId":"t%02d","amount":"%d.%02d","tip":"%d.00","currency":"MXN","method":"CARD",`+
		`"venueId":%q,"correlationId":%q,"timestamp":%q,"status":"completed","userId":"staff_%d","note":"`,
		id, n/3, n%40, 20+r.IntN(900), r.IntN(100), r.IntN(90), venue, correlation, event.FormatTime(at), n%9)
	for len(payload) < eventBytes-2 {
		payload = append(payload, "abcdefghijklmnopqrstuvwxyz      "[r.IntN(32)])
	}
	return &event.Event{
		ID: event.ID(fmt.Sprintf("01936f0e-%04x-7%03x-8%03x-%012x", r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), n)), Kind: event.PaymentCompleted, Origin: event.Terminal, Class: event.Money,
		Time: at, Subject: id, Actor: fmt.Sprintf("staff_%d", n%9), Role: event.Cashier, Terminal: fmt.Sprintf("28415484%02d", n%5),
		CorrelationID: correlation, Payload: append(payload, `"}`...),
	}
}

// fillJournal makes the state of a box that never ran, with n events in it.
func fillJournal(ctx context.Context, state string, n int) error {
	dir := filepath.Join(state, "journal")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	o := journal.Options{}
	if err := journal.Create(dir, o); err != nil {
		return err
	}
	j, err := journal.Open(dir, o)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	var ended, refused error
	writer.Go(func() { ended = j.Run(running) })
	// In order, and many in one commit.
	var mu sync.Mutex // guards refused
	for i := 1; i <= n && err == nil; i++ {
		err = j.Enqueue(ctx, sale(i), func(_ event.Receipt, e error) {
			if e != nil {
				mu.Lock()
				defer mu.Unlock()
				refused = e
			}
		})
	}
	if err == nil {
		err = until("the journal has it all", 10*time.Minute, func() bool { return j.Stored() == event.Seq(n) })
	}
	stop()
	writer.Wait()
	return errors.Join(err, ended, refused, j.Close()) // no answer comes once Run has returned
}

// fillBridge has a broker queue the same events for its connection.
func fillBridge(addr string, n int) error {
	c, err := dialBroker(addr, "terminal")
	if err != nil {
		return err
	}
	defer c.conn.Close()
	var answers sync.WaitGroup
	var failed error
	answers.Go(func() {
		for range n {
			if _, _, failed = c.read(); failed != nil {
				return
			}
		}
	})
	for i := 1; i <= n && err == nil; i++ {
		err = c.publish(topics+"events", cloudEvent(i))
	}
	err = errors.Join(err, c.flush())
	answers.Wait()
	return errors.Join(err, failed)
}

// cloudEvent is an event as the box sends it, alone in its batch.
func cloudEvent(n int) []byte {
	e := sale(n)
	previous := ""
	if n > 1 {
		previous = fmt.Sprintf(`"previous":"%020d",`, n-1)
	}
	return fmt.Appendf(nil, `[{"specversion":"1.0","id":%q,"source":"/venues/%s/boxes/b1","type":"io.avoqado.%s","subject":%q,"time":%q,`+
		`"datacontenttype":"application/json","epoch":"01936f0e-7c00-7a5e-8000-000000000001","sequence":"%020d",%s"origin":%q,"actor":%q,"role":%q,"terminal":%q,"correlationid":%q,"data":%s}]`,
		e.ID, venue, e.Kind, e.Subject, event.FormatTime(e.Time), n, previous, e.Origin, e.Actor, e.Role, e.Terminal, e.CorrelationID, e.Payload)
}
