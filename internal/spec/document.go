package spec

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Document returns the AsyncAPI 3.0 document of both wires, as YAML.
func (s *Spec) Document(version string) []byte { return appendYAML(nil, s.document(version), 0) }

func (s *Spec) document(version string) object {
	lanMessages, operations := s.socketIO()
	channels := object{{Key: "lan", Value: object{
		{Key: "address", Value: "/"},
		{Key: "title", Value: "Socket.IO namespace /"},
		{Key: "description", Value: "All events of the LAN. Each message is a Socket.IO event of its name whose first argument is the payload. Stored events that clients hear have their recovery offset as a second argument."},
		{Key: "servers", Value: []any{object{{Key: "$ref", Value: "#/servers/lan"}}}},
		{Key: "messages", Value: lanMessages},
	}}}
	topics, more := s.mqtt()
	channels, operations = append(channels, topics...), append(operations, more...)
	return object{
		{Key: "asyncapi", Value: "3.0.0"},
		{Key: "id", Value: "urn:avoqado:edge"},
		{Key: "defaultContentType", Value: "application/json"},
		{Key: "info", Value: object{
			{Key: "title", Value: "Avoqado Edge"},
			{Key: "version", Value: version},
			{Key: "description", Value: s.words.markdown()},
			{Key: "license", Value: object{{Key: "name", Value: "Apache-2.0"}}},
		}},
		{Key: "servers", Value: servers()},
		{Key: "channels", Value: channels},
		{Key: "operations", Value: operations},
		{Key: "components", Value: object{{Key: "schemas", Value: s.schemas()}}},
	}
}

func servers() object {
	return object{
		{Key: "lan", Value: object{
			{Key: "host", Value: "{box}"},
			{Key: "pathname", Value: "/socket.io/"},
			{Key: "protocol", Value: "socketio"},
			{Key: "protocolVersion", Value: "5"},
			{Key: "description", Value: "The box in the LAN of the venue, found by mDNS (_avoqado-edge._tcp). Engine.IO 4, WebSocket or polling with upgrade."},
			{Key: "variables", Value: object{{Key: "box", Value: object{{Key: "default", Value: "avoqado-edge.local:8080"}, {Key: "description", Value: "Host and port of the box"}}}}},
			{Key: "security", Value: []any{object{{Key: "type", Value: "http"}, {Key: "scheme", Value: "bearer"}, {Key: "bearerFormat", Value: "JWT"}}}},
		}},
		{Key: "broker", Value: object{
			{Key: "host", Value: "{broker}"},
			{Key: "protocol", Value: "mqtt"},
			{Key: "protocolVersion", Value: "3.1.1"},
			{Key: "description", Value: "Any MQTT 3.1.1 broker. QoS 1 both ways, persistent session (clean session off, client id avoqado-edge-{boxId}), over TCP, TLS or WebSocket."},
			{Key: "variables", Value: object{{Key: "broker", Value: object{{Key: "default", Value: "localhost:8883"}, {Key: "description", Value: "Host and port of the broker"}}}}},
		}},
	}
}

func (w *words) markdown() string {
	var b strings.Builder
	for _, p := range w.Promises {
		fmt.Fprintf(&b, "## %s\n\n%s\n\n", p.Title, p.Text)
	}
	b.WriteString("## Errors\n\n| code | statusCode | error | retryable, retryAfterMs | meaning |\n|---|---|---|---|---|\n")
	for _, e := range w.Errors {
		status, retry := "", "no"
		if e.Status > 0 {
			status = fmt.Sprint(e.Status)
		}
		if e.Retry != "" {
			retry = "yes, " + e.Retry
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", e.Code, status, e.Text, retry, e.About)
	}
	return strings.TrimSpace(b.String())
}

// socketIO returns the messages of the LAN and an operation per kind and
// direction, as the box sees them: it receives what clients send.
func (s *Spec) socketIO() (messages, operations object) {
	add := func(name string, m object) { messages = append(messages, yaml.MapItem{Key: name, Value: m}) }
	add("failure", message("ack", "Failure", "The ack of a refused request; rooms, payments, orders and alerts get it as an error event besides.", nil))
	add("failure.terminal", message("ack", "TerminalFailure", "The ack of what a terminal said and the box refused.", nil))
	for i := range s.Events {
		e := &s.Events[i]
		name := string(e.Row.Kind)
		if e.Row.FromClients() {
			add(e.Key()+".sent", message(name, e.Key()+".sent", e.About, e.Sent))
			add(e.Key()+".ack", message("ack", e.Key()+".ack", "The ack of "+name+".", nil))
			failure := "failure"
			if e.Row.Terminal {
				failure += ".terminal"
			}
			operations = append(operations, yaml.MapItem{Key: "receive." + e.Key(), Value: object{
				{Key: "action", Value: "receive"},
				{Key: "channel", Value: channelRef("lan")},
				{Key: "summary", Value: e.About},
				{Key: "description", Value: e.description()},
				{Key: "messages", Value: []any{messageRef("lan", e.Key()+".sent")}},
				{Key: "reply", Value: object{
					{Key: "channel", Value: channelRef("lan")},
					{Key: "messages", Value: []any{messageRef("lan", e.Key()+".ack"), messageRef("lan", failure)}},
				}},
			}})
		}
		if !e.Heard() {
			continue
		}
		add(e.Key()+".heard", message(name, e.Key()+".heard", e.About, e.HeardExample()))
		op := object{
			{Key: "action", Value: "send"},
			{Key: "channel", Value: channelRef("lan")},
			{Key: "summary", Value: e.About},
			{Key: "description", Value: e.description()},
			{Key: "messages", Value: []any{messageRef("lan", e.Key()+".heard")}},
		}
		if e.Row.Kind == event.BridgeRequest {
			m := message("ack", "Object", "The terminal has the request.", e.Answer)
			m[1].Value = object{{Key: "type", Value: "object"}, {Key: "required", Value: []any{"accepted", "requestId"}}}
			add(e.Key()+".answer", m)
			op = append(op, yaml.MapItem{Key: "reply", Value: object{
				{Key: "channel", Value: channelRef("lan")}, {Key: "messages", Value: []any{messageRef("lan", e.Key()+".answer")}},
			}})
		}
		operations = append(operations, yaml.MapItem{Key: "send." + e.Key(), Value: op})
	}
	return messages, operations
}

func message(name, schema, about string, example []byte) object {
	m := object{{Key: "name", Value: name}, {Key: "payload", Value: ref(schema)}, {Key: "summary", Value: about}}
	if example != nil {
		m = append(m, yaml.MapItem{Key: "examples", Value: []any{object{{Key: "payload", Value: value(example)}}}})
	}
	return m
}

func channelRef(name string) object { return object{{Key: "$ref", Value: "#/channels/" + name}} }

func messageRef(channel, name string) object {
	return object{{Key: "$ref", Value: "#/channels/" + channel + "/messages/" + name}}
}

// mqtt returns a channel and an operation per topic.
func (s *Spec) mqtt() (channels, operations object) {
	for i := range s.Topics {
		t := &s.Topics[i]
		name := "mqtt." + t.Name
		parameters := object{{Key: "venueId", Value: object{{Key: "description", Value: "Venue, [A-Za-z0-9_-]{1,64}"}}}}
		if strings.Contains(t.Address, "{boxId}") {
			parameters = append(parameters, yaml.MapItem{Key: "boxId", Value: object{{Key: "description", Value: "Box, [A-Za-z0-9_-]{1,64}"}}})
		}
		m := message(t.Name, name, t.About, t.Example)
		m = append(m, yaml.MapItem{Key: "contentType", Value: t.ContentType})
		channels = append(channels, yaml.MapItem{Key: name, Value: object{
			{Key: "address", Value: Prefix + t.Address},
			{Key: "description", Value: t.About},
			{Key: "servers", Value: []any{object{{Key: "$ref", Value: "#/servers/broker"}}}},
			{Key: "parameters", Value: parameters},
			{Key: "messages", Value: object{{Key: "message", Value: m}}},
		}})
		action := "receive"
		if t.FromBox {
			action = "send"
		}
		op := object{
			{Key: "action", Value: action},
			{Key: "channel", Value: channelRef(name)},
			{Key: "summary", Value: t.About},
			{Key: "messages", Value: []any{messageRef(name, "message")}},
			{Key: "bindings", Value: object{{Key: "mqtt", Value: object{
				{Key: "qos", Value: t.QoS}, {Key: "retain", Value: t.Retained}, {Key: "bindingVersion", Value: "0.2.0"},
			}}}},
		}
		if t.AnsweredBy != "" {
			op = append(op, yaml.MapItem{Key: "reply", Value: object{
				{Key: "channel", Value: channelRef("mqtt." + t.AnsweredBy)},
				{Key: "messages", Value: []any{messageRef("mqtt."+t.AnsweredBy, "message")}},
			}})
		}
		operations = append(operations, yaml.MapItem{Key: action + "." + name, Value: op})
	}
	return channels, operations
}

// Prefix is where the topics of a venue begin, unless a box is told another.
const Prefix = "avoqado/v1/venues/{venueId}/"
