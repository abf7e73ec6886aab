package lan

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/recovery"
)

// syncRequired tells a client that it may have missed events that the box
// cannot give it, and must fetch its state anew:
// {reason, epoch, from, through}, the seqs if they are known.
const syncRequired = "sync_required"

// Why events cannot be given; besides the errors of [recovery.Store.Claim].
const (
	lossTrimmed = "events_trimmed" // too long ago
	lossOnDisk  = "events_lost"    // damaged on disk

	lossElsewhere = "other_box" // another box of the venue has them
)

// saveTimeout is how long a client waits for its session to be durable.
const saveTimeout = 2 * time.Second

// loss is the body of sync_required.
func (s *Server) loss(reason string, from, through event.Seq) json.RawMessage {
	members := []event.Member{event.Text("reason", reason), event.Text("epoch", string(s.journal.Epoch()))}
	if from > 0 {
		members = append(members, number("from", uint64(from)), number("through", uint64(through)))
	}
	return object(members...)
}

func number(key string, n uint64) event.Member {
	return event.Member{Key: key, Value: strconv.AppendUint(nil, n, 10)}
}

// recall gives a session back what it had before, if it says so and can prove
// it; else it makes it a new one. It runs on the client's reader, before the
// CONNECT is answered: the pid in that answer tells the client which it is.
func (s *Server) recall(sess *session, handshake map[string]any) {
	owner := recovery.Owner{Subject: sess.grant.Subject, Role: sess.grant.Role, Terminal: sess.terminal}
	pid, _ := handshake["pid"].(string)
	offset, _ := handshake["offset"].(string)
	fol := &follower{sess: sess}
	sess.relays = s.fan.relays.Load()
	if pid != "" {
		rec, at, err := s.recovery.Claim(pid, offset, owner)
		switch {
		case err != nil:
			sess.unwhole = s.loss(err.Error(), 0, 0)
		case at > s.fan.seen():
			sess.unwhole = s.loss(recovery.ErrOffset.Error(), 0, 0)
		case !s.fan.whole(at):
			sess.unwhole = s.loss(lossElsewhere, 0, 0)
		case !s.has(at):
			sess.unwhole = s.loss(lossTrimmed, at+1, s.fan.seen())
		default:
			sess.rec, sess.recovered, sess.self = rec, true, rec.Self()
			for _, p := range rec.Places() {
				kind, id, _ := strings.Cut(p, "/")
				sess.places[place{kind, id}] = struct{}{}
			}
			fol.moveTo(at)
			sess.behind.Store(fol)
			s.counters.recovered.Add(1)
			return
		}
		s.counters.unrecovered.Add(1)
	}
	fol.through = s.fan.seen()
	fol.newest = make(map[string]int)
	fol.scanned, fol.own = s.positions.of(sess.recipient())
	fol.byRole, _ = s.positions.of(roleKey(sess.grant.Role))
	if fol.own && fol.through > fol.scanned+maxPlan { // away for long
		fol.scanned = max(fol.scanned, s.recent(longestReplay(), fol.through))
	}
	fol.moveTo(min(fol.scanned, fol.through))
	sess.behind.Store(fol)
	sess.rec = s.recovery.New(owner, sess.self, fol.through)
	if (fol.own && fol.scanned < fol.through) || (!fol.own && len(s.fan.remembered(fol.through)) > 0) {
		sess.rec.Owe(fol.through)
	} else {
		fol.scanned = fol.through
		s.positions.prove(sess.recipient(), fol.through)
		fol.moveTo(fol.through)
	}
	s.durable()
}

// durable waits until the sessions are on disk, or gives up: then a session is
// good until the box dies.
func (s *Server) durable() {
	done := make(chan struct{})
	s.recovery.Save(func() { close(done) })
	timeout := time.NewTimer(saveTimeout)
	defer timeout.Stop()
	select {
	case <-done:
	case <-timeout.C:
	case <-s.serving.Done():
	}
}

// has reports whether the journal holds all that follows a seq, as far as can
// be seen from its beginning. While it cannot be read it is not given up.
func (s *Server) has(at event.Seq) bool {
	stored := s.journal.Stored()
	if at >= stored {
		return true
	}
	events, err := s.journal.Read(at, 1, 1)
	return err != nil || (len(events) > 0 && events[0].Seq == at+1)
}

// pidOf returns the secret name of a socket's session, which goes into the
// answer to its CONNECT.
func (s *Server) pidOf(sid string) string {
	io, ok := s.io.Sockets().Sockets().Load(socket.SocketId(sid))
	if !ok {
		return ""
	}
	if sess, ok := io.Data().(*session); ok {
		return sess.rec.PID()
	}
	return ""
}

func (p place) String() string { return p.kind + "/" + p.id }
