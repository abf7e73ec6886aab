package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Broker is an embedded MQTT broker that lets everybody in and keeps nothing
// on disk. It is for a machine's own use.
type Broker struct {
	server *mochi.Server
	door   *door
}

// ListenBroker returns a broker that is bound to addr, such as 127.0.0.1:0,
// and answers once Run is called. What it logs goes to log at debug level,
// its errors as warnings.
func ListenBroker(addr string, log *slog.Logger) (*Broker, error) {
	limits := mochi.NewDefaultServerCapabilities()
	// It drops QoS 1 messages beyond these. A back-end that was away for a
	// while finds what its session gathered.
	limits.MaximumClientWritesPending = 1 << 15
	limits.MaximumInflight = 1<<16 - 1
	s := mochi.New(&mochi.Options{
		Capabilities: limits,
		Logger:       slog.New(quiet{log.Handler()}),
	})
	if err := s.AddHook(newManners(), nil); err != nil {
		return nil, fmt.Errorf("set up broker: %w", err)
	}
	d, err := openDoor(addr, s.Log)
	if err != nil {
		return nil, err
	}
	if err := s.AddListener(d); err != nil {
		return nil, fmt.Errorf("add listener: %w", err)
	}
	return &Broker{server: s, door: d}, nil
}

// Addr returns the host and port the broker is bound to.
func (b *Broker) Addr() string { return b.door.Address() }

// URL returns the broker's address as clients want it.
func (b *Broker) URL() string { return "tcp://" + b.Addr() }

// Run serves until ctx ends, then closes all connections. Call it once.
func (b *Broker) Run(ctx context.Context) error {
	if err := b.server.Serve(); err != nil {
		return fmt.Errorf("serve mqtt: %w", err)
	}
	<-ctx.Done()
	if err := b.server.Close(); err != nil {
		return fmt.Errorf("close broker: %w", err)
	}
	return nil
}

// manners lets every client connect, publish and subscribe, and mends two
// habits of the library that a box or a back-end would suffer from.
type manners struct {
	mochi.HookBase
	order atomic.Int64 // of the last message
}

func newManners() *manners {
	m := new(manners)
	m.order.Store(time.Now().UnixNano() &^ (1<<16 - 1))
	return m
}

// ID names the hook.
func (*manners) ID() string { return "manners" }

// Provides says which questions the hook answers.
func (*manners) Provides(question byte) bool {
	switch question {
	case mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnSessionEstablish, mochi.OnPublish:
		return true
	}
	return false
}

// OnConnectAuthenticate lets every client in.
func (*manners) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck lets every client use every topic.
func (*manners) OnACLCheck(*mochi.Client, string, bool) bool { return true }

// OnSessionEstablish has the broker count its packet ids from the middle. It
// mixes them up with the client's own, which begin at 1: a SUBSCRIBE under the
// id of a message that waits for delivery is refused, and a PUBLISH under it
// makes the broker forget that message.
func (*manners) OnSessionEstablish(c *mochi.Client, _ packets.Packet) {
	for range 1 << 15 {
		if _, err := c.NextPacketID(); err != nil {
			return // all are in use
		}
	}
}

// OnPublish numbers the messages. The broker orders what it delivers again by
// the lowest 16 bits of the second in which it came.
func (m *manners) OnPublish(_ *mochi.Client, p packets.Packet) (packets.Packet, error) {
	p.Created = m.order.Add(1)
	return p, nil
}

// quiet makes a library's log ours: its news is our detail, and its errors,
// mostly a client that went away, are no more than warnings.
type quiet struct{ slog.Handler }

func (q quiet) level(l slog.Level) slog.Level {
	if l >= slog.LevelError {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// Enabled reports whether the record would be shown at its lowered level.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, q.level(l))
}

// Handle passes the record on at its lowered level.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = q.level(r.Level)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs keeps the lowering.
func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }

// WithGroup keeps the lowering.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

// longest is how long one exchange with a broker may take.
const longest = 10 * time.Second
