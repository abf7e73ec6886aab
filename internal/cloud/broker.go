package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Broker is an embedded MQTT broker that lets everybody in and keeps nothing
// on disk. It is for a machine's own use.
type Broker struct {
	server   *mochi.Server
	listener *listeners.TCP
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
	if err := s.AddHook(new(everybody), nil); err != nil {
		return nil, fmt.Errorf("set up broker: %w", err)
	}
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: addr})
	if err := s.AddListener(l); err != nil {
		return nil, fmt.Errorf("listen for mqtt: %w", err)
	}
	return &Broker{server: s, listener: l}, nil
}

// Addr returns the host and port the broker is bound to.
func (b *Broker) Addr() string { return b.listener.Address() }

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

// everybody lets every client connect, publish and subscribe.
type everybody struct{ mochi.HookBase }

// ID names the hook.
func (*everybody) ID() string { return "everybody" }

// Provides says which questions the hook answers.
func (*everybody) Provides(question byte) bool {
	return question == mochi.OnConnectAuthenticate || question == mochi.OnACLCheck
}

// OnConnectAuthenticate lets every client in.
func (*everybody) OnConnectAuthenticate(*mochi.Client, packets.Packet) bool { return true }

// OnACLCheck lets every client use every topic.
func (*everybody) OnACLCheck(*mochi.Client, string, bool) bool { return true }

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
