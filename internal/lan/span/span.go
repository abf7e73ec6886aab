package span

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	aliveEvery  = time.Second     // a sign of life
	silentAfter = 4 * time.Second // without one of our own coming back the way is not open
	commandTime = 2 * time.Second // for a connection, a command, an answer
	minRetry    = 250 * time.Millisecond
	maxRetry    = 4 * time.Second

	maxQueue      = 2048    // messages that wait to be published
	maxQueueBytes = 4 << 20 // bytes of them
	publishStep   = 64      // messages in one round trip
	maxPeers      = 64      // boxes whose count is kept
)

// Config says where the other boxes are met.
type Config struct {
	URL   string // redis[s]://[[user]:password@]host[:port][/db]
	Venue string // names the channel; messages of another one are refused

	// Room reports whether other boxes may speak to a room. It is called on
	// one goroutine and must not block.
	Room func(name string) bool
}

// Status is how the box stands to the others of its venue.
type Status struct {
	Joined bool      // hears the others and is heard by them; else it is alone
	Since  time.Time // of Joined or of its opposite
	Peers  int       // other boxes there are, as the Redis counts them
	Cause  string    // why it is alone: a name
	Error  string    // why: the text; holds no secret
}

// Stats counts what happened since the start. All counters only grow.
type Stats struct {
	Sent     int64            // messages published
	Unsent   int64            // messages not published: the box was alone, or too many waited
	Received int64            // messages of other boxes
	Lost     int64            // messages of other boxes that never came, by their count
	Refused  map[string]int64 // messages not passed on, by reason
	Gaps     int64            // times others said what never came
	Joins    int64            // times it joined
}

// Span is a box's way to the others. All methods may be called concurrently.
type Span struct {
	cfg      Config
	options  *redis.Options
	channel  string
	own      header // of this run
	ownMark  []byte
	log      *slog.Logger
	received chan Message
	wake     chan struct{} // one entry while something waits to be published

	mu     sync.Mutex // guards below
	status Status
	stats  Stats
	said   uint64 // lasting messages so far, published or not
	queue  [][]byte
	bytes  int
	counts map[string]uint64 // run of another box → N of its last message
}

// errURL does not repeat the URL: it may hold a password.
var errURL = errors.New("redis url is not redis[s]://[[user]:password@]host[:port][/db]")

// New returns a span that is alone until [Span.Run] has joined. It connects to
// nothing itself.
func New(cfg Config, log *slog.Logger) (*Span, error) {
	options, err := redis.ParseURL(cfg.URL)
	if err != nil {
		return nil, errURL
	}
	// Whoever waits here waits for nothing: one try, and then the next one.
	options.MaxRetries, options.DialerRetries = -1, 1
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = commandTime, commandTime, commandTime
	options.PoolSize, options.PoolTimeout = 2, commandTime
	options.ContextTimeoutEnabled = true
	// No more than any Redis since version 3 knows.
	options.Protocol, options.DisableIdentity = 2, true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	own := header{From: rand.Text(), V: version, Venue: cfg.Venue}
	return &Span{
		cfg: cfg, options: options, channel: "avoqado-edge:" + cfg.Venue + ":lan",
		own: own, ownMark: mark(own.From), log: log,
		received: make(chan Message, publishStep), wake: make(chan struct{}, 1),
		status: Status{Since: time.Now(), Cause: causeStarting},
		stats:  Stats{Refused: make(map[string]int64)},
		counts: make(map[string]uint64),
	}, nil
}

// Received gives the messages of the other boxes, in the order of each. What is
// not taken waits, in the Redis in the end.
func (s *Span) Received() <-chan Message { return s.received }

// Status returns how the box stands to the others.
func (s *Span) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Stats returns the counters.
func (s *Span) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Refused = maps.Clone(stats.Refused)
	return stats
}

// Publish hands a message over for the other boxes and never waits: while the
// box is alone, and when too many wait, it is counted and gone. Messages arrive
// in their order or not at all.
func (s *Span) Publish(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lasting(m.Event) {
		s.said++
	}
	if !s.status.Joined || len(s.queue) >= maxQueue || s.bytes+len(m.Payload) > maxQueueBytes {
		s.stats.Unsent++
		return
	}
	h := s.own
	h.N, h.Event, h.To, h.Except = s.said, m.Event, m.To, m.Except
	b := h.encode(m.Payload)
	s.queue = append(s.queue, b)
	s.bytes += len(b)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run keeps the box joined with the others until ctx ends: whatever happens to
// the Redis, it tries again. It may be called once.
func (s *Span) Run(ctx context.Context) {
	retry := minRetry
	for {
		joined, err := s.meet(ctx)
		if ctx.Err() != nil {
			return
		}
		s.alone(err)
		if joined {
			retry = minRetry
		}
		timer := time.NewTimer(retry)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		retry = min(2*retry, maxRetry)
	}
}

// meet connects, and publishes and hears until something fails; joined says
// that it had begun to.
func (s *Span) meet(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	client := redis.NewClient(s.options)
	sub := client.Subscribe(ctx)
	// Neither of the two looks at ctx while it reads.
	stop := context.AfterFunc(ctx, func() { _, _ = sub.Close(), client.Close() })
	defer func() {
		cancel(nil)
		if stop() {
			_, _ = sub.Close(), client.Close()
		}
	}()
	if err := sub.Subscribe(ctx, s.channel); err != nil {
		return false, fmt.Errorf("connect to redis: %w", err)
	}
	if _, err := sub.ReceiveTimeout(ctx, commandTime); err != nil { // that it is subscribed
		return false, fmt.Errorf("subscribe: %w", err)
	}
	var group sync.WaitGroup
	group.Go(func() { cancel(s.publish(ctx, client)) })
	joined, err = s.hear(ctx, sub)
	cancel(err)
	group.Wait()
	return joined, context.Cause(ctx) // of the two the first to fail
}

// hear passes on what comes. That our own messages come back says that the way
// is open, both to the Redis and from it.
func (s *Span) hear(ctx context.Context, sub *redis.PubSub) (joined bool, err error) {
	back := time.Now()
	for {
		left := time.Until(back.Add(silentAfter))
		if left <= 0 {
			return joined, errSilent
		}
		got, err := sub.ReceiveTimeout(ctx, left)
		if err != nil {
			return joined, fmt.Errorf("hear: %w", err)
		}
		m, isMessage := got.(*redis.Message)
		if !isMessage {
			continue
		}
		b := []byte(m.Payload)
		if bytes.HasPrefix(b, s.ownMark) {
			back = time.Now()
			if !joined {
				joined = true
				s.join()
			}
			continue
		}
		for _, message := range s.judge(b) {
			select {
			case s.received <- message:
			case <-ctx.Done():
				return joined, ctx.Err()
			}
			back = time.Now() // waiting to be taken is not silence
		}
	}
}

// judge counts a message of another box and returns what is to be passed on.
func (s *Span) judge(b []byte) []Message {
	h, payload, reason := decode(b, s.cfg.Venue, s.cfg.Room)
	s.mu.Lock()
	defer s.mu.Unlock()
	if reason != "" {
		s.stats.Refused[reason]++
		return nil
	}
	expected, known := s.counts[h.From]
	if !known && len(s.counts) >= maxPeers {
		clear(s.counts) // most of these runs are over; the others begin anew
	}
	s.counts[h.From] = h.N
	if lasting(h.Event) {
		expected++
	}
	var list []Message
	if h.N > expected {
		if known {
			s.stats.Lost += int64(min(h.N-expected, math.MaxInt32)) //nolint:gosec // bounded
		}
		s.stats.Gaps++
		list = append(list, Message{Gap: true})
	}
	if h.Event != "" {
		s.stats.Received++
		list = append(list, Message{Event: h.Event, To: h.To, Except: h.Except, Payload: payload})
	}
	return list
}

// publish sends what waits, and signs of life, until ctx ends or it fails.
func (s *Span) publish(ctx context.Context, client *redis.Client) error {
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	due := true // a sign of life
	for {
		batch, said := s.take(due)
		if len(batch) > 0 {
			due = due && !said
			if err := s.send(ctx, client, batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		case <-alive.C:
			due = true
		}
	}
}

// take returns the next messages to be published. A sign of life that is due
// stands behind the last one: it holds how much was said, so the others would
// miss what comes after it.
func (s *Span) take(due bool) (batch [][]byte, alive bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.queue), publishStep)
	batch = s.queue[:n:n]
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	for _, b := range batch {
		s.bytes -= len(b)
	}
	if alive = due && len(s.queue) == 0; alive {
		h := s.own
		h.N = s.said
		batch = append(batch, h.encode(nil))
	}
	return batch, alive
}

func (s *Span) send(ctx context.Context, client *redis.Client, batch [][]byte) error {
	pipe := client.Pipeline()
	answers := make([]*redis.IntCmd, len(batch))
	for i, b := range batch {
		answers[i] = pipe.Publish(ctx, s.channel, b)
	}
	_, err := pipe.Exec(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.stats.Unsent += int64(len(batch))
		return fmt.Errorf("publish: %w", err)
	}
	s.stats.Sent += int64(len(batch))
	s.status.Peers = max(0, int(answers[len(answers)-1].Val())-1) // less this box
	return nil
}

// join notes that the others are heard from now on.
func (s *Span) join() {
	s.mu.Lock()
	s.status.Joined, s.status.Since = true, time.Now()
	s.status.Cause, s.status.Error = "", ""
	s.stats.Joins++
	s.mu.Unlock()
	s.log.Info("venue spans boxes", "redis", s.options.Addr)
}

// alone notes that they are not, once per reason.
func (s *Span) alone(err error) {
	cause := explain(err)
	s.mu.Lock()
	was := s.status
	s.status.Joined, s.status.Peers = false, 0
	if was.Joined {
		s.status.Since = time.Now()
	}
	s.status.Cause, s.status.Error = cause, err.Error()
	s.stats.Unsent += int64(len(s.queue))
	s.queue, s.bytes = nil, 0
	s.mu.Unlock()
	if was.Cause != cause {
		s.log.Warn("box serves its own clients alone", "redis", s.options.Addr, "cause", cause, "err", err)
	}
}
