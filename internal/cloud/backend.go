package cloud

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// BackendConfig is what a back-end needs to know.
type BackendConfig struct {
	Access

	// Path is the file that holds effects and positions.
	Path string

	// Prefix is the topic prefix; "avoqado/v1/venues/+" listens to all venues.
	Prefix string

	// ClientID names the session the broker keeps for the back-end while it is
	// away. Default: a name that the file keeps, so that two back-ends, of which
	// a broker would throw one out for the other, never share one by accident.
	ClientID string

	// AcceptHoles commits what comes behind a hole instead of waiting for the
	// box to send again. It is for boxes that take a broker's word for
	// delivery: what that broker lost then does not come again.
	AcceptHoles bool
}

// Backend does what the contract asks of a back-end: it commits the effect of
// an event and the event's position in one transaction, skips what it has,
// commits nothing behind a hole, and then says how far it is. It may be killed
// at any moment.
type Backend struct {
	cfg    BackendConfig
	db     *bolt.DB
	log    *slog.Logger
	queue  chan mqtt.Message
	full   atomic.Bool
	online atomic.Bool
	counts struct{ duplicates, holes, rejected atomic.Uint64 }
}

// queueLength bounds the messages a back-end holds. What does not fit is not
// confirmed, and comes again when the queue has been worked off.
const queueLength = 256

// maxBatch bounds what a compressed batch may unfold to.
const maxBatch = 1 << 20

// OpenBackend opens or makes the file and returns a back-end that listens once
// Run is called. Close it after Run.
func OpenBackend(cfg BackendConfig, log *slog.Logger) (*Backend, error) {
	if cfg.Prefix == "" {
		return nil, errors.New("open back-end: no topic prefix")
	}
	db, err := bolt.Open(cfg.Path, 0o600, &bolt.Options{Timeout: 2 * time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fmt.Errorf("open back-end store: %w", err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{effects, positions, self} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return fmt.Errorf("make bucket: %w", err)
			}
		}
		if cfg.ClientID != "" {
			return nil
		}
		var err error
		cfg.ClientID, err = clientID(tx.Bucket([]byte(self)))
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open back-end store: %w", err), db.Close())
	}
	return &Backend{cfg: cfg, db: db, log: log, queue: make(chan mqtt.Message, queueLength)}, nil
}

// Close closes the store.
func (b *Backend) Close() error {
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close back-end store: %w", err)
	}
	return nil
}

// Run takes events until ctx ends, connecting again for ever. onEvent, if not
// nil, is called for each event once it is committed, from one goroutine, in
// committed order.
func (b *Backend) Run(ctx context.Context, onEvent func(Effect)) error {
	for attempt := 0; ; attempt++ {
		began := time.Now()
		err := b.serve(ctx, onEvent)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end, and did
		}
		if time.Since(began) > time.Second {
			attempt = 0
		}
		if attempt == 0 {
			b.log.Warn("back-end offline", "err", err)
		}
		if !pause(ctx, attempt) {
			return nil
		}
	}
}

// serve is one connection.
func (b *Backend) serve(ctx context.Context, onEvent func(Effect)) error {
	b.full.Store(false)
	s, err := connect(ctx, b.cfg.Access, b.cfg.ClientID, b.receive)
	if err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	failed := make(chan error, 1)
	all.Go(func() { failed <- b.work(work, s, onEvent) })
	defer func() {
		stop()
		s.close()
		all.Wait()
		for len(b.queue) > 0 { // unconfirmed: they come again
			<-b.queue
		}
	}()
	events := b.cfg.Prefix + "/boxes/+/events"
	if err := s.subscribe(ctx, events, events+"/gzip"); err != nil {
		return err
	}
	b.online.Store(true)
	defer b.online.Store(false)
	b.log.Info("back-end online", "prefix", b.cfg.Prefix)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gone:
		return errors.New("connection lost")
	case err := <-failed:
		failed <- err
		return err
	}
}

// Online reports whether the back-end is connected and subscribed.
func (b *Backend) Online() bool { return b.online.Load() }

// receive is called by the library's read loop.
func (b *Backend) receive(m mqtt.Message) {
	if b.full.Load() {
		return
	}
	select {
	case b.queue <- m:
	default:
		b.full.Store(true)
	}
}

func (b *Backend) work(ctx context.Context, s *session, onEvent func(Effect)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-b.queue:
			if err := b.take(s, m, onEvent); err != nil {
				return err
			}
			m.Ack()
		}
		if b.full.Load() && len(b.queue) == 0 {
			return errors.New("more messages than could be worked off")
		}
	}
}

// take commits a message and says so.
func (b *Backend) take(s *session, m mqtt.Message, onEvent func(Effect)) error {
	acks, word, err := b.Take(m.Topic(), m.Payload(), onEvent)
	if err != nil || word == nil {
		return err
	}
	// Not waited for: the box sends again if it does not hear it.
	s.client.Publish(acks, 1, false, word)
	return nil
}

// Take commits what came on a topic for events, by whatever way it came, and
// returns the word for the box and its topic; no word if there is nothing to
// say. A message nobody can read is dropped, without an error: else the broker
// would send it for ever. After an error the message must come again. One
// goroutine at a time may call it, and not beside Run. onEvent may be nil; see
// Run.
func (b *Backend) Take(topic string, raw []byte, onEvent func(Effect)) (acks string, word []byte, err error) {
	box, zipped := strings.CutSuffix(topic, "/events/gzip")
	if zipped {
		if raw, err = unzip(raw); err != nil {
			b.reject(topic, raw, err)
			return "", nil, nil
		}
	} else {
		box = strings.TrimSuffix(box, "/events")
	}
	var batch []cloudEvent
	if err := json.Unmarshal(raw, &batch); err != nil {
		b.reject(topic, raw, err)
		return "", nil, nil
	}
	list := make([]Effect, len(batch))
	for i := range batch {
		e, err := batch[i].effect()
		if err != nil {
			b.reject(topic, raw, err)
			return "", nil, nil
		}
		list[i] = e
	}
	result, err := b.commit(list)
	if err != nil {
		return "", nil, err
	}
	b.counts.duplicates.Add(uint64(result.duplicates))
	if result.hole {
		b.counts.holes.Add(1)
		b.log.Warn("hole in the events of a box", "box", box, "through", result.through)
	}
	if onEvent != nil {
		for _, e := range result.fresh {
			onEvent(e)
		}
	}
	if result.epoch == "" {
		return "", nil, nil
	}
	word, err = json.Marshal(struct {
		Epoch   event.Epoch `json:"epoch"`
		Through event.Seq   `json:"through"`
	}{result.epoch, result.through})
	if err != nil {
		return "", nil, fmt.Errorf("encode confirmation: %w", err)
	}
	return box + "/acks", word, nil
}

func (b *Backend) reject(topic string, raw []byte, why error) {
	b.counts.rejected.Add(1)
	b.log.Warn("unreadable batch", "topic", topic, "size", len(raw), "err", why)
}

func unzip(raw []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("unzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, maxBatch+1))
	if err != nil {
		return nil, fmt.Errorf("unzip: %w", err)
	}
	if len(out) > maxBatch {
		return nil, fmt.Errorf("unzip: more than %d bytes", maxBatch)
	}
	return out, nil
}

// Counts is what a back-end counted since it was opened.
type Counts struct {
	Duplicates uint64 // events it had already
	Holes      uint64 // batches that did not follow on what it has
	Rejected   uint64 // messages it could not read
}

// Counts returns the counts. Safe concurrently.
func (b *Backend) Counts() Counts {
	return Counts{b.counts.duplicates.Load(), b.counts.holes.Load(), b.counts.rejected.Load()}
}
