package spec

import (
	"slices"

	"github.com/goccy/go-yaml"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// schemas returns every JSON Schema of the document by its name:
//
//	<kind>         what the members mean, none of them needed: a broadcast's payload
//	<kind>.sent    what a client sends
//	<kind>.heard   what clients hear
//	<kind>.ack     what a client that sent it is answered
//	mqtt.<topic>   the body of an MQTT message
func (s *Spec) schemas() object {
	all := slices.Clone(s.types)
	add := func(name string, schema object) { all = append(all, yaml.MapItem{Key: name, Value: schema}) }
	failure, _ := s.fields(failureFields())
	add("Audience", audience())
	add("Kind", object{{Key: "type", Value: "string"}, {Key: "enum", Value: s.broadcasts()}})
	add("Enriched", shape(s.added(), []string{"correlationId", "timestamp", "venueId"}))
	add("Failure", shape(failure, []string{"correlationId", "success", "error", "statusCode", "code"}))
	add("TerminalFailure", object{
		{Key: "type", Value: "object"},
		{Key: "required", Value: []any{"success", "error"}},
		{Key: "properties", Value: object{{Key: "success", Value: constant(false)}, {Key: "error", Value: ref("Text")}}},
	})
	for i := range s.Events {
		e := &s.Events[i]
		add(e.Key(), shape(e.Fields, nil))
		if e.Row.FromClients() {
			add(e.Key()+".sent", e.sent())
			add(e.Key()+".ack", e.ack())
		}
		if e.Heard() {
			add(e.Key()+".heard", e.heard())
		}
	}
	for i := range s.Topics {
		t := &s.Topics[i]
		add("mqtt."+t.Name, s.body(t))
	}
	return all
}

// added are the members the box adds to what is heard.
func (s *Spec) added() []Field {
	list, _ := s.fields(object{
		{Key: "correlationId", Value: "Id — The sender's, else one of the box; the same for all who hear it"},
		{Key: "timestamp", Value: "Time — When the box took it; the cloud's own if it says one"},
		{Key: "venueId", Value: "Text — The venue"},
		{Key: "replayed", Value: "Bool — true: it happened before this client came back"},
	})
	return list
}

// heard is what clients get.
func (e *Event) heard() object {
	own := object{}
	if len(e.must) > 0 {
		own = object{{Key: "type", Value: "object"}, {Key: "required", Value: anys(e.must)}}
	}
	all := []any{ref(e.Key())}
	if e.enriched() {
		all = append(all, ref("Enriched"))
	}
	if len(own) > 0 {
		all = append(all, own)
	}
	return object{{Key: "allOf", Value: all}}
}

// sent is what a client must say: the needs of the catalogue.
func (e *Event) sent() object {
	r := &e.Row
	own := object{{Key: "type", Value: "object"}}
	must := []string{}
	alternatives := []any{}
	for _, need := range r.Needs {
		if twin := twinOf(r, need.Key); twin != "" {
			alternatives = append(alternatives, required(need.Key), required(twin))
			continue
		}
		must = append(must, need.Key)
	}
	if r.Family == event.Session {
		must = e.must
	}
	if r.Choice.Key != "" && !r.Choice.Optional && !slices.Contains(must, r.Choice.Key) {
		must = append(must, r.Choice.Key)
	}
	if len(must) > 0 {
		own = append(own, yaml.MapItem{Key: "required", Value: anys(must)})
	}
	if len(alternatives) > 0 {
		own = append(own, yaml.MapItem{Key: "anyOf", Value: alternatives})
	}
	if c := &r.Choice; c.Key != "" && !c.Fold {
		own = append(own, yaml.MapItem{Key: "properties", Value: object{
			{Key: c.Key, Value: object{{Key: "enum", Value: anys(c.Values)}}},
		}})
	}
	return object{{Key: "allOf", Value: []any{ref(e.Key()), own}}}
}

func required(key string) object { return object{{Key: "required", Value: []any{key}}} }

func twinOf(r *event.Row, key string) string {
	for _, pair := range r.Twins {
		switch key {
		case pair[0]:
			return pair[1]
		case pair[1]:
			return pair[0]
		}
	}
	return ""
}

func constant(v any) object { return object{{Key: "const", Value: v}} }

// ack is what a client that sent it is answered, if it was taken.
func (e *Event) ack() object {
	r := &e.Row
	kind := r.Kind
	if r.Alias != "" {
		kind = r.Alias
	}
	switch {
	case kind == event.Authenticate:
		return ref("authentication_success.heard")
	case kind == event.JoinRoom:
		return ref("room_joined.heard")
	case kind == event.LeaveRoom:
		return ref("room_left.heard")
	case kind == event.TPVLog:
		return answer("id", ref("Text"))
	case kind == event.TPVHeartbeat:
		return append(answer("", nil), yaml.MapItem{Key: "anyOf", Value: []any{required("id"), required("debounced")}})
	case r.Terminal && r.Done != "":
		return answer("message", constant(r.Done))
	case r.Terminal:
		return answer("", nil)
	}
	members := object{
		{Key: "correlationId", Value: ref("Text")},
		{Key: "success", Value: constant(true)},
		{Key: "message", Value: constant(r.Done)},
	}
	must := []any{"correlationId", "success", "message"}
	if r.Family != event.Alert {
		kind := r.Type
		if r.Family == event.Plain || r.Family == event.Task {
			kind = string(r.Kind)
		}
		members, must = append(members, yaml.MapItem{Key: "eventType", Value: constant(kind)}), append(must, "eventType")
	}
	for _, key := range r.Echo {
		members = append(members, yaml.MapItem{Key: key, Value: object{}})
	}
	members = append(members, object{
		{Key: "eventId", Value: ref("Text")},
		{Key: "seq", Value: ref("Int")},
		{Key: "durability", Value: constant("stored")},
		{Key: "duplicate", Value: ref("Bool")},
	}...)
	must = append(must, "eventId", "seq", "durability")
	return object{{Key: "type", Value: "object"}, {Key: "required", Value: must}, {Key: "properties", Value: members}}
}

func answer(key string, schema object) object {
	members, must := object{{Key: "success", Value: constant(true)}}, []any{"success"}
	if key != "" {
		members, must = append(members, yaml.MapItem{Key: key, Value: schema}), append(must, key)
	}
	return object{{Key: "type", Value: "object"}, {Key: "required", Value: must}, {Key: "properties", Value: members}}
}

func (s *Spec) broadcasts() []any {
	var list []any
	for i := range s.Events {
		if s.Events[i].Row.Broadcast {
			list = append(list, string(s.Events[i].Row.Kind))
		}
	}
	return list
}

func audience() object {
	ids := object{{Key: "type", Value: "array"}, {Key: "items", Value: ref("Id")}}
	roles := object{{Key: "type", Value: "array"}, {Key: "items", Value: ref("Role")}}
	return object{
		{Key: "type", Value: "object"},
		{Key: "description", Value: "Who hears it, the union of the members; lists that are all empty name nobody and are refused"},
		{Key: "properties", Value: object{
			{Key: "venue", Value: ref("Bool")},
			{Key: "tables", Value: ids},
			{Key: "orders", Value: ids},
			{Key: "roles", Value: roles},
			{Key: "users", Value: ids},
			{Key: "terminals", Value: ids},
			{Key: "excludeRoles", Value: roles},
		}},
		{Key: "additionalProperties", Value: false},
	}
}

// body is the schema of an MQTT message.
func (s *Spec) body(t *Topic) object {
	if t.batch {
		return object{
			{Key: "type", Value: "array"},
			{Key: "minItems", Value: 1},
			{Key: "maxItems", Value: 256},
			{Key: "items", Value: s.cloudEvent()},
		}
	}
	o := shape(t.Fields, t.must)
	if t.strict {
		o[len(o)-1].Value = false
	}
	if t.broadcast {
		var cases []any
		for i := range s.Events {
			if e := &s.Events[i]; e.Row.Broadcast {
				cases = append(cases, when("event", string(e.Row.Kind), "payload", e.Key()))
			}
		}
		o = append(o, yaml.MapItem{Key: "allOf", Value: cases})
	}
	return o
}

// cloudEvent is one event on its way to the cloud; its data is what the LAN
// heard, or what the terminal said to the box and the cloud alone.
func (s *Spec) cloudEvent() object {
	fields, _ := s.fields(object{
		{Key: "specversion", Value: "1.0| — CloudEvents"},
		{Key: "id", Value: "Text — For ever the same; the idempotencyKey of the sender where there is one"},
		{Key: "source", Value: "Text — /venues/{venueId}/boxes/{boxId}"},
		{Key: "type", Value: "Text — io.avoqado. and the name of the event"},
		{Key: "subject", Value: "Text — The natural key, such as the paymentId"},
		{Key: "time", Value: "Time — When the box took it, as well as is known when it is sent: sent again, the same event may bear a better one"},
		{Key: "timequality", Value: "synced|corrected|unknown — How time was found: by a clock that was right within timeerror; by one that was not, and put right since, within timeerror; by one that may have been wrong by anything"},
		{Key: "timeerror", Value: "Integer — By how many milliseconds time may be off, at most; absent if that is unknown"},
		{Key: "datacontenttype", Value: "application/json| — Of data"},
		{Key: "epoch", Value: "Text — The history sequence belongs to"},
		{Key: "sequence", Value: "Text — Place in the journal, 20 digits, so that text order is number order"},
		{Key: "previous", Value: "Text — Sequence of the event sent before it in this epoch; where you have another, a message is missing"},
		{Key: "origin", Value: "terminal|local — Who made it: a client, or a program or operator at the box"},
		{Key: "actor", Value: "Text — Staff id of the sender"},
		{Key: "role", Value: "Role — Of the sender"},
		{Key: "terminal", Value: "Text — Serial of the sending terminal, without AVQD- and in capitals"},
		{Key: "correlationid", Value: "Text — Of the event"},
		{Key: "data", Value: "Object — The Socket.IO payload, byte for byte"},
	})
	o := shape(fields, []string{"specversion", "id", "source", "type", "time", "datacontenttype", "epoch", "sequence", "origin", "data"})
	var cases []any
	for i := range s.Events {
		e := &s.Events[i]
		switch {
		case !e.Travels():
		case e.Heard() && !e.Row.Queued:
			cases = append(cases, when("type", "io.avoqado."+string(e.Row.Kind), "data", e.Key()+".heard"))
		case e.Row.FromClients():
			cases = append(cases, when("type", "io.avoqado."+string(e.Row.Kind), "data", e.Key()+".sent"))
		default:
			cases = append(cases, when("type", "io.avoqado."+string(e.Row.Kind), "data", e.Key()))
		}
	}
	return append(o, yaml.MapItem{Key: "allOf", Value: cases})
}

// when says that the member holds the schema's shape if key is the value.
func when(key, value, member, schema string) object {
	return object{
		{Key: "if", Value: object{{Key: "properties", Value: object{{Key: key, Value: constant(value)}}}}},
		{Key: "then", Value: object{{Key: "properties", Value: object{{Key: member, Value: ref(schema)}}}}},
	}
}
