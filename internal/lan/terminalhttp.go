package lan

import (
	"context"
	"net/http"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/lan/tasks"
)

// Here are the two calls by which today's terminal speaks over HTTP instead of
// its socket (contract §3.8).

// CommandResult takes {commandId, terminalId, resultStatus, resultMessage?,
// resultPayload?} and is in all else [Server.Publish] of a tpv_command_result.
// A login that names no terminal speaks for the one in the payload, as a
// socket's does; the command must be that terminal's.
func (s *Server) CommandResult(ctx context.Context, g auth.Grant, payload []byte) Ack {
	if o, err := event.ParseObject(payload); err == nil { // else Publish refuses it
		if g.Terminal == "" {
			// If it is not believed it is none, and Publish refuses it.
			g.Terminal, _ = s.identify(g, auth.NormaliseTerminal(o.Ident("terminalId")))
		}
		var members []event.Member
		for _, name := range []struct{ http, socket string }{{"resultMessage", "message"}, {"resultPayload", "resultData"}} {
			if raw := o.Raw(name.http); raw != nil && o.Raw(name.socket) == nil {
				members = append(members, event.Member{Key: name.socket, Value: raw})
			}
		}
		payload = o.With(members...)
	}
	return s.Publish(ctx, g, event.TPVCommandResult, payload, nil, event.Terminal)
}

// Heartbeat takes {terminalId, status, version?, systemInfo?, networkInfo?, …}.
// It is answered to anybody; only a login of the venue that may speak for the
// terminal (g is not nil) changes what is known of it and is seen by the venue
// as tpv_status_update, once in half a minute.
//
// A terminal erases its activation when it is told that it is unknown or
// retired. So this never answers 404, and the serverStatus it answers is what
// the terminal said itself. Commands are not in the answer: they reach the
// terminal by its socket, where the box can know that they did.
func (s *Server) Heartbeat(g *auth.Grant, payload []byte) Ack {
	o, err := event.ParseObject(payload)
	id := ""
	if err == nil {
		id = o.Ident("terminalId")
	}
	if id == "" || len(id) > event.MaxKey || len(payload) > event.MaxPayload {
		r := event.Refuse(http.StatusBadRequest, "bad_payload", "Heartbeat must be a JSON object with a terminalId")
		s.counters.reject(r.Code)
		return Ack{Status: r.Status, Body: failure(event.NewCorrelationID(), r)}
	}
	status := "ACTIVE"
	if o.String("status") == "MAINTENANCE" {
		status = "MAINTENANCE"
	}
	now := time.Now()
	switch {
	case g == nil || s.closing.Load():
	case !s.mayBeat(g, id):
		r := tasks.NotYours()
		s.counters.reject(r.Code)
		return Ack{Status: r.Status, Body: failure(event.NewCorrelationID(), r)}
	case s.terminals.beat(o, now):
		members := []event.Member{
			event.Text("terminalId", s.terminals.cuidOf(id)), event.Text("status", status),
			event.Text("lastHeartbeat", event.FormatTime(now)),
		}
		for _, key := range []string{"version", "systemInfo"} {
			if raw := o.Raw(key); raw != nil {
				members = append(members, event.Member{Key: key, Value: raw})
			}
		}
		s.tell(event.TPVStatusUpdate, append(members, event.Text("timestamp", event.FormatTime(now))), event.Object{})
	default:
		s.counters.debounced.Add(1)
	}
	return Ack{Status: http.StatusOK, Body: object(
		event.Member{Key: "success", Value: []byte("true")}, event.Text("message", "Heartbeat processed"),
		event.Text("serverStatus", status), event.Text("timestamp", event.FormatTime(now)),
	)}
}

// mayBeat reports whether a login may say a heartbeat: it names the terminal,
// or none while nobody else is that terminal.
func (s *Server) mayBeat(g *auth.Grant, id string) bool {
	if g.Venue != s.cfg.Venue {
		return false
	}
	if g.Terminal != "" {
		return s.speaksFor(g.Terminal, id)
	}
	sess := s.terminals.session(id)
	return sess == nil || sess.grant.Subject == g.Subject
}
