package lan_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/auth"
	"github.com/avoqado/avoqado-edge/internal/event"
)

func TestRoomRefusals(t *testing.T) {
	b := start(t)
	c := b.as(event.Viewer)
	for _, verb := range []string{"join_room", "leave_room"} {
		for _, x := range []struct{ payload, text, status string }{
			{``, "Room payload is required", "400"},
			{`null`, "Room payload is required", "400"},
			{`7`, "Room payload is required", "400"},
			{`{}`, "Room type is required", "400"},
			{`{"roomType":""}`, "Room type is required", "400"},
			{`{"roomType":"table"}`, "Venue ID is required", "400"},
			{`{"roomType":"zoo"}`, "Venue ID is required", "400"},
			{`{"roomType":"table","venueId":"venue_1"}`, "Table ID is required for table rooms", "400"},
			{`{"roomType":"table","venueId":"venue_2"}`, "Table ID is required for table rooms", "400"},
			{`{"roomType":"order","venueId":"venue_1","tableId":"t"}`, "Order ID is required for order rooms", "400"},
			{`{"roomType":"zoo","venueId":"venue_2"}`, "Invalid room type: zoo", "400"},
			{`{"roomType":7,"venueId":"venue_1"}`, "Invalid room type: 7", "400"},
			{`{"roomType":"venue","venueId":"venue_2"}`, "Access denied to specified venue", "401"},
			{`{"roomType":"global","venueId":"venue_2"}`, "Access denied to specified venue", "401"},
			{`{"roomType":"table","venueId":"venue_1","tableId":{}}`, "tableId must be a string of at most 128 bytes", "400"},
			{`{"roomType":"table","venueId":"venue_1","tableId":"` + strings.Repeat("x", 200) + `"}`, "tableId must be a string of at most 128 bytes", "400"},
		} {
			ack := c.ask(verb, x.payload)
			checkFailure(t, ack, x.text, x.status)
			if got := c.want("error"); got != ack {
				t.Errorf("error event %s differs from ack %s", got, ack)
			}
		}
	}
	checkFailure(t, c.ask("join_room", `{"roomType":"global","venueId":"venue_1"}`), "Unsupported room type: global", "400")
	checkFailure(t, c.ask("joinVenueRoom", `{"venueId":"venue_2"}`), "Access denied to specified venue", "401")
	checkFailure(t, c.ask("leaveVenueRoom", `"venue_1"`), "Room payload is required", "400")
}

func TestRoomAnswers(t *testing.T) {
	b := start(t)
	c := b.connect(auth.Grant{Subject: "staff_1", Role: event.Host}, "")
	for _, x := range []struct{ name, payload, event, message, extra string }{
		{"join_room", `{"roomType":"venue","venueId":"venue_1"}`, "room_joined", "Already in venue room: venue_1", ""},
		{"join_room", `{"roomType":"role","venueId":"venue_1"}`, "room_joined", "Already in role room: HOST", `,"role":"HOST"`},
		{"join_room", `{"roomType":"user","venueId":"venue_1"}`, "room_joined", "Already in user room: staff_1", `,"userId":"staff_1"`},
		{"join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1","metadata":{}}`, "room_joined", "Joined table room: t1", `,"tableId":"t1"`},
		{"join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`, "room_joined", "Joined table room: t1", `,"tableId":"t1"`},
		{"join_room", `{"roomType":"order","venueId":"venue_1","orderId":7}`, "room_joined", "Joined order room: 7", `,"orderId":"7"`},
		{"joinVenueRoom", `{"venueId":"venue_1"}`, "room_joined", "Already in venue room: venue_1", ""},
		{"leave_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`, "room_left", "Left table room: t1", `,"tableId":"t1"`},
		{"leave_room", `{"roomType":"order","venueId":"venue_1","orderId":"7"}`, "room_left", "Left order room: 7", `,"orderId":"7"`},
		{"leave_room", `{"roomType":"venue","venueId":"venue_1"}`, "room_left", "Left venue room", ""},
		{"leave_room", `{"roomType":"role","venueId":"venue_1"}`, "room_left", "Left role room", ""},
		{"leave_room", `{"roomType":"user","venueId":"venue_1"}`, "room_left", "Left user room", ""},
		{"leave_room", `{"roomType":"global","venueId":"venue_1"}`, "room_left", "Left global room", ""},
		{"leaveVenueRoom", `{"venueId":"venue_1"}`, "room_left", "Left venue room", ""},
	} {
		ack := c.ask(x.name, x.payload)
		if got := c.want(x.event); got != ack {
			t.Errorf("event %s differs from ack %s", got, ack)
		}
		_, rest, _ := strings.Cut(ack, `",`) // behind the correlation id
		kind := field(t, ack, "roomType")
		if want := fmt.Sprintf(`"success":true,"message":%q,"roomType":%s,"venueId":"venue_1"%s}`, x.message, kind, x.extra); rest != want {
			t.Errorf("got  %s\nwant %s", rest, want)
		}
	}
	// Leaving the venue's room is polite, but one stays in it.
	b.quiet(c, "error")
	if ack := c.ask("join_room", `{"roomType":"venue","venueId":"venue_1"}`); field(t, ack, "success") != "true" {
		t.Error(ack)
	}
	// Without an ack the event alone tells.
	c.emit("join_room", `{"roomType":"venue","venueId":"venue_1"}`)
	c.want("room_joined")
	c.want("room_joined")
}

func TestPresence(t *testing.T) {
	b := start(t)
	one, two, outsider := b.as(event.Waiter), b.as(event.Manager), b.as(event.Viewer)
	table, order := `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`, `{"roomType":"order","venueId":"venue_1","orderId":"o1"}`
	one.ask("join_room", table)
	one.ask("join_room", order)
	check := func(name, kind, id string) {
		t.Helper()
		got := one.want(name)
		for key, want := range map[string]string{
			"type": fmt.Sprintf("%q", kind), "userId": `"staff_manager"`, "role": `"MANAGER"`, "venueId": `"venue_1"`,
			"tableId": "", "orderId": "", id[:5] + "Id": fmt.Sprintf("%q", id[6:]),
		} {
			if (key == "tableId" || key == "orderId") && want == "" && key == id[:5]+"Id" {
				continue
			}
			if field(t, got, key) != want {
				t.Errorf("%s is %s, want %s", key, field(t, got, key), want)
			}
		}
		if len(field(t, got, "timestamp")) != 26 || len(field(t, got, "correlationId")) != 38 {
			t.Errorf("not enriched: %s", got)
		}
	}
	two.ask("join_room", table)
	check("table_status_change", "user_joined_table", "table:t1")
	two.ask("join_room", order)
	check("order_status_changed", "user_joined_order", "order:o1")
	two.ask("leave_room", table)
	check("table_status_change", "user_left_table", "table:t1")
	two.ask("join_room", table)
	check("table_status_change", "user_joined_table", "table:t1")
	_ = two.ws.Close()
	check("table_status_change", "user_left_table", "table:t1")
	check("order_status_changed", "user_left_order", "order:o1")
	b.quiet(one, "table_status_change", "order_status_changed")
	b.quiet(outsider, "table_status_change", "order_status_changed")
	if n := len(one.pending("error")); n > 0 {
		t.Errorf("%d errors", n)
	}
}

// TestRoomsCannotBeForged joins tables whose ids look like other rooms.
func TestRoomsCannotBeForged(t *testing.T) {
	b := start(t)
	victim := b.connect(auth.Grant{Subject: "staff_7", Role: event.Manager}, "AVQD-1")
	victim.ask("join_room", `{"roomType":"order","venueId":"venue_1","orderId":"o1"}`)
	spy := b.as(event.Viewer)
	for _, id := range []string{
		victim.sid, "venue:venue_1", "t1:order:o1", "../order:o1", ":order:o1", "o1", "user:staff_7", "staff_7",
		"venue_venue_1_order_o1", "MANAGER", "role:MANAGER", "terminal:1", "",
	} {
		spy.emit("join_room", fmt.Sprintf(`{"roomType":"table","venueId":"venue_1","tableId":%q}`, id))
		if id != "o1" { // which anybody may join
			spy.emit("join_room", fmt.Sprintf(`{"roomType":"order","venueId":"venue_1","orderId":%q}`, id))
		}
	}
	spy.ask("authenticate", `{}`)
	for _, a := range []event.Audience{
		{Orders: []string{"o1"}}, {Users: []string{"staff_7"}}, {Roles: []event.Role{event.Manager}}, {Terminals: []string{"1"}},
	} {
		b.journal.append(event.Event{Kind: "menu_updated", Audience: a, Payload: []byte(`{}`)})
		victim.want("menu_updated")
	}
	b.quiet(spy, "menu_updated")
}

func TestTooManyRooms(t *testing.T) {
	b := start(t)
	c := b.as(event.Waiter)
	for i := range 512 {
		c.emit("join_room", fmt.Sprintf(`{"roomType":"table","venueId":"venue_1","tableId":"t%d"}`, i))
	}
	checkFailure(t, c.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"one more"}`), "Socket is in 512 rooms already", "400")
	if ack := c.ask("join_room", `{"roomType":"table","venueId":"venue_1","tableId":"t1"}`); field(t, ack, "success") != "true" {
		t.Error(ack)
	}
}

func TestStatistics(t *testing.T) {
	b := start(t)
	b.as(event.Waiter)
	b.as(event.Waiter)
	b.connect(auth.Grant{Subject: "staff_1", Role: event.Cashier, Terminal: "77"}, "")
	got := b.Connections()
	if got.ConnectionStats.Total != 3 || got.ConnectionStats.Venues[venue] != 3 || got.ConnectionStats.Roles[event.Waiter] != 2 ||
		got.ServerStats.Clients != 3 || got.ServerStats.Rooms != 3+1+2+2+1 {
		t.Errorf("connections are %+v", got)
	}
	if n := b.CloseSockets(func(g auth.Grant) bool { return g.Role == event.Waiter }); n != 2 {
		t.Errorf("%d closed", n)
	}
	until(t, "they are gone", func() bool { return b.Connections().ConnectionStats.Total == 1 })
}
