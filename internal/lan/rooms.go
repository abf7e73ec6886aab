package lan

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/zishang520/socket.io/servers/socket/v3"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

// maxRooms is how many tables and orders one socket may be in.
const maxRooms = 512

// Room names. The kind is fixed text and the id is the whole rest, so no id can
// make the name of another room; the colon is in no socket id, so none can make
// the name of a socket's own room either.
const (
	venueRoom  = "venue:"
	tablePart  = "table:"
	orderPart  = "order:"
	rolePart   = "role:"
	userPart   = "user:"
	deviceName = "terminal:"
)

// rooms names the rooms of the box's one venue.
type rooms struct {
	venue  string
	serial func(id string) string // of a terminal, whichever of its ids is given
}

func (r rooms) everyone() socket.Room { return socket.Room(venueRoom + r.venue) }
func (r rooms) within(part, id string) socket.Room {
	return socket.Room(venueRoom + r.venue + ":" + part + id)
}
func (r rooms) table(id string) socket.Room        { return r.within(tablePart, id) }
func (r rooms) order(id string) socket.Room        { return r.within(orderPart, id) }
func (r rooms) role(role event.Role) socket.Room   { return r.within(rolePart, string(role)) }
func (r rooms) user(id string) socket.Room         { return r.within(userPart, id) }
func (r rooms) terminal(serial string) socket.Room { return r.within(deviceName, serial) }

// of returns the rooms that hear an audience and those that do not. The first
// list is never empty: to the library no room at all would mean everybody.
func (r rooms) of(a event.Audience) (to, except []socket.Room) {
	for _, role := range a.Except {
		except = append(except, r.role(role))
	}
	if a.Everyone() {
		return []socket.Room{r.everyone()}, except
	}
	for _, id := range a.Tables {
		to = append(to, r.table(id))
	}
	for _, id := range a.Orders {
		to = append(to, r.order(id))
	}
	for _, role := range a.Roles {
		to = append(to, r.role(role))
	}
	for _, id := range a.Users {
		to = append(to, r.user(id))
	}
	for _, id := range a.Terminals {
		to = append(to, r.terminal(r.serial(id)))
	}
	return to, except
}

// place is a table or an order a socket has joined.
type place struct{ kind, id string }

func (s *Server) placeRoom(p place) socket.Room {
	if p.kind == "table" {
		return s.rooms.table(p.id)
	}
	return s.rooms.order(p.id)
}

// roomRequest is a join_room or leave_room that passed all checks.
type roomRequest struct {
	kind  string // venue, table, order, role, user or, to leave, global
	place place  // of a table or an order
}

// checkRoom applies the checks of the existing system in their order and with
// their texts (contract §2.3).
func (sess *session) checkRoom(payload json.RawMessage, verb string) (roomRequest, *event.Refusal) {
	bad := func(text string) *event.Refusal { return event.Refuse(http.StatusBadRequest, "bad_payload", text) }
	var req roomRequest

	if sess.ended.Load() {
		return req, unauthenticated("Authentication required to " + verb + " rooms")
	}
	o, err := event.ParseObject(payload)
	if err != nil {
		return req, bad("Room payload is required")
	}
	req.kind = o.String("roomType")
	switch {
	case !o.Truthy("roomType"):
		return req, bad("Room type is required")
	case !o.Truthy("venueId"):
		return req, bad("Venue ID is required")
	case req.kind == "table" && !o.Truthy("tableId"):
		return req, bad("Table ID is required for table rooms")
	case req.kind == "order" && !o.Truthy("orderId"):
		return req, bad("Order ID is required for order rooms")
	}
	switch req.kind {
	case "table", "order":
		req.place = place{kind: req.kind, id: o.Ident(req.kind + "Id")}
		if n := len(req.place.id); n == 0 || n > event.MaxKey {
			return req, bad(fmt.Sprintf("%sId must be a string of at most %d bytes", req.kind, event.MaxKey))
		}
	case "venue", "role", "user", "global":
	default:
		kind := req.kind
		if kind == "" {
			kind = string(o.Raw("roomType"))
		}
		return req, bad("Invalid room type: " + clip(kind))
	}
	if o.String("venueId") != sess.grant.Venue {
		return req, event.WrongVenue()
	}
	if verb == "join" && req.kind == "global" {
		return req, bad("Unsupported room type: global")
	}
	return req, nil
}

// clip bounds a client's text that goes back in an answer.
func clip(text string) string {
	if len(text) > event.MaxKey {
		return text[:event.MaxKey]
	}
	return text
}

// joinRoom and leaveRoom: the effect, the ack, the event to self, the broadcast
// to the others, in this order.
func (sess *session) joinRoom(c *call, payload json.RawMessage) {
	req, refusal := sess.checkRoom(payload, "join")
	if refusal == nil && req.place.kind != "" && !sess.enter(req.place) {
		refusal = event.Refuse(http.StatusBadRequest, "too_many_rooms",
			fmt.Sprintf("Socket is in %d rooms already", maxRooms))
	}
	if refusal != nil {
		sess.refuse(c, refusal)
		return
	}
	sess.roomDone(c, req, "room_joined", "joined")
}

func (sess *session) leaveRoom(c *call, payload json.RawMessage) {
	req, refusal := sess.checkRoom(payload, "leave")
	if refusal != nil {
		sess.refuse(c, refusal)
		return
	}
	if req.place.kind != "" {
		sess.exit(req.place)
	}
	sess.roomDone(c, req, "room_left", "left")
}

func (sess *session) roomDone(c *call, req roomRequest, name, verb string) {
	text, extra := roomText(req, verb, sess.grant)
	members := append([]event.Member{
		event.Text("correlationId", sess.correlationID),
		{Key: "success", Value: []byte("true")},
		event.Text("message", text),
		event.Text("roomType", req.kind),
		event.Text("venueId", sess.grant.Venue),
	}, extra...)
	body := object(members...)
	answer := func() {
		sess.finish(c, func() {
			c.answer(body)
			sess.emit(name, body)
			if req.place.kind != "" {
				sess.server.announce(sess, req.place, verb)
			}
		})
	}
	if verb == "joined" {
		sess.joined.Store(time.Now().UnixMilli())
	}
	if req.place.kind == "" {
		answer()
		return
	}
	sess.server.recovery.Save(answer) // a client that comes back is where it was told it is
}

func roomText(req roomRequest, verb string, g auth.Grant) (text string, extra []event.Member) {
	joined := verb == "joined"
	switch {
	case req.kind == "table" && joined:
		text = "Joined table room: " + req.place.id
	case req.kind == "order" && joined:
		text = "Joined order room: " + req.place.id
	case req.kind == "table":
		text = "Left table room: " + req.place.id
	case req.kind == "order":
		text = "Left order room: " + req.place.id
	case !joined:
		return "Left " + req.kind + " room", nil
	case req.kind == "role":
		return "Already in role room: " + string(g.Role), []event.Member{event.Text("role", string(g.Role))}
	case req.kind == "user":
		return "Already in user room: " + g.Subject, []event.Member{event.Text("userId", g.Subject)}
	default:
		return "Already in venue room: " + g.Venue, nil
	}
	return text, []event.Member{event.Text(req.kind+"Id", req.place.id)}
}

// announce tells the other members of a table or an order that the socket has
// joined or left it (contract §2.5).
func (s *Server) announce(sess *session, p place, verb string) {
	kind := event.TableStatusChange
	if p.kind == "order" {
		kind = event.OrderStatusChanged
	}
	body := object(
		event.Text("type", "user_"+verb+"_"+p.kind),
		event.Text("userId", sess.grant.Subject),
		event.Text("role", string(sess.grant.Role)),
		event.Text(p.kind+"Id", p.id),
		event.Text("timestamp", event.FormatTime(time.Now())),
		event.Text("correlationId", event.NewCorrelationID()),
		event.Text("venueId", sess.grant.Venue),
	)
	_ = s.io.To(s.placeRoom(p)).Except(socket.Room(sess.sid)).Emit(string(kind), body)
}

// enter and exit keep the socket's places; false: it is in too many.
func (sess *session) enter(p place) bool {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	if _, in := sess.places[p]; !in && len(sess.places) >= maxRooms {
		return false
	}
	sess.places[p] = struct{}{}
	sess.rec.Join(p.String())
	if sess.admitted { // else it will be, with all its places
		sess.io.Join(sess.server.placeRoom(p))
	}
	return true
}

func (sess *session) exit(p place) {
	sess.mu.Lock()
	defer sess.mu.Unlock()
	delete(sess.places, p)
	sess.rec.Leave(p.String())
	sess.io.Leave(sess.server.placeRoom(p))
}
