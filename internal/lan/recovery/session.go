package recovery

import (
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Owner is whom a session belongs to. Nobody else is given it, whatever they
// present.
type Owner struct {
	Subject  string     `json:"u"`
	Role     event.Role `json:"r"`
	Terminal string     `json:"t,omitempty"` // normalised serial
}

// Session is what is remembered of one client over its connections. Its methods
// may be called concurrently.
type Session struct {
	store *Store
	pid   string

	// Guarded by store.mu.
	rec     record
	holder  *holder // who serves it now; nil: it is away
	dirty   bool    // differs from the disk in what must be there
	saved   event.Seq
	savedAt time.Time
	bytes   int // estimated, in memory and on disk
}

type record struct {
	Owner
	Self     string      `json:"s"`           // name of its first socket
	Epoch    event.Epoch `json:"e"`           // of Position
	Position event.Seq   `json:"p"`           // it has, or was not to have, all up to here
	Owed     event.Seq   `json:"o,omitempty"` // see Session.Owe
	Places   []string    `json:"j,omitempty"` // the rooms it joined
	Seen     int64       `json:"w"`           // Unix seconds when it was last here
}

type holder struct{ letGo func() }

// PID is the session's secret name: whoever presents it, as its owner, is given
// the session.
func (x *Session) PID() string { return x.pid }

// Self is the session's public name: that of its first socket.
func (x *Session) Self() string {
	x.store.mu.Lock()
	defer x.store.mu.Unlock()
	return x.rec.Self
}

// Places lists the rooms it has joined, in the words of [Session.Join].
func (x *Session) Places() []string {
	x.store.mu.Lock()
	defer x.store.mu.Unlock()
	return slices.Clone(x.rec.Places)
}

// Join and Leave note that it joined a room or left it. The change is durable
// when the done of a later [Store.Save] is called.
func (x *Session) Join(place string) {
	x.change(func(r *record) bool {
		if slices.Contains(r.Places, place) {
			return false
		}
		r.Places = append(r.Places, place)
		return true
	})
}

// Leave is the opposite of Join.
func (x *Session) Leave(place string) {
	x.change(func(r *record) bool {
		n := len(r.Places)
		r.Places = slices.DeleteFunc(r.Places, func(p string) bool { return p == place })
		return len(r.Places) != n
	})
}

// Owe notes that what was stored up to seq is on its way to the client by other
// means than its offset: until the client has shown that it is beyond seq, the
// session is not given back.
func (x *Session) Owe(seq event.Seq) {
	x.change(func(r *record) bool { r.Owed = seq; return true })
}

// Prove notes that the client has all up to seq. It is written now and then.
func (x *Session) Prove(seq event.Seq) {
	x.change(func(r *record) bool {
		r.Position = max(r.Position, seq)
		if r.Owed == 0 || r.Owed > seq {
			return false
		}
		r.Owed = 0
		return true
	})
}

func (x *Session) change(f func(*record) bool) {
	x.store.mu.Lock()
	defer x.store.mu.Unlock()
	if f(&x.rec) {
		x.dirty = true
		x.store.weigh(x)
	}
}

// Hold makes the caller the one who serves the session. Whoever served it
// before, over a connection that is dead and does not know it yet, is told to
// let go; took says that there was one. When the caller's own connection is
// gone it calls release, which reports whether nobody had taken over.
func (x *Session) Hold(letGo func()) (release func() bool, took bool) {
	h := &holder{letGo}
	x.store.mu.Lock()
	before := x.holder
	x.holder = h
	x.store.mu.Unlock()
	if before != nil {
		before.letGo()
	}
	return func() bool {
		x.store.mu.Lock()
		defer x.store.mu.Unlock()
		if x.holder != h {
			return false
		}
		x.holder = nil
		x.rec.Seen = x.store.now().Unix()
		return true
	}, before != nil
}
