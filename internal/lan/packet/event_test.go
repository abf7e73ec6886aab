package packet

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func counting() (p Parser, malformed, waited *atomic.Int32) {
	malformed, waited = new(atomic.Int32), new(atomic.Int32)
	return Parser{
		Malformed: func() { malformed.Add(1) }, Waited: func() { waited.Add(1) }, Unwritable: func() {},
	}, malformed, waited
}

func TestRead(t *testing.T) {
	p, malformed, _ := counting()
	for _, c := range []struct {
		packet    string
		ok        bool
		name, ack string
		args      string // joined by spaces; "error": the packet ends the transport
	}{
		{`2["a"]`, true, "a", "", ``},
		{`27["a",{"n": 9007199254740993 , "f":120.50}]`, true, "a", "7", `{"n": 9007199254740993 , "f":120.50}`},
		{`2 [ "a\u0041" , 1e3 ,[2,{"b":null}]]`, true, "aA", "", `1e3 [2,{"b":null}]`},
		{`218446744073709551615["a"]`, true, "a", "18446744073709551615", ``},
		{`2["a",` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `]`, true, "a", "", strings.Repeat("[", 70) + strings.Repeat("]", 70)},

		// The library's: other packets, other namespaces.
		{``, false, "", "", ""},
		{`0{}`, false, "", "", ""},
		{`1`, false, "", "", ""},
		{`37[1]`, false, "", "", ""},
		{`2/other,["a"]`, false, "", "", ""},
		{`51-["a"]`, false, "", "", ""},

		{`2`, true, "", "", "error"},
		{`2[]`, true, "", "", "error"},
		{`2{"a":1}`, true, "", "", "error"},
		{`2["a"]x`, true, "", "", "error"},
		{`2["a",]`, true, "", "", "error"},
		{`2["a"`, true, "", "", "error"},
		{`2[1]`, true, "", "", "error"},
		{`2["connect"]`, true, "", "", "error"},
		{`2["a",01]`, true, "", "", "error"},
		{`2["a",nul]`, true, "", "", "error"},
		{`2["a\x"]`, true, "", "", "error"},
		{`2["` + strings.Repeat("a", 129) + `"]`, true, "", "", "error"},
		{`2123456789012345678901["a"]`, true, "", "", "error"},
		{`2["a",` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `]`, true, "", "", "error"},
	} {
		before := malformed.Load()
		in, ok, err := p.Read([]byte(c.packet), new(Gate), nil)
		if ok != c.ok || (err != nil) != (c.args == "error") || malformed.Load()-before != int32(len(c.args)/len("error")) && err != nil {
			t.Errorf("%.40s: taken %v, error %v", c.packet, ok, err)
		}
		if !ok || err != nil {
			continue
		}
		var args []string
		for _, arg := range in.Event.Args {
			args = append(args, string(arg))
		}
		if in.Name != c.name || string(in.Ack) != c.ack || strings.Join(args, " ") != c.args {
			t.Errorf("%.40s: %s %q %q", c.packet, in.Name, in.Ack, args)
		}
	}
}

// FuzzReadAsTheLibrary reads random packets and compares with encoding/json.
func FuzzReadAsTheLibrary(f *testing.F) {
	for _, seed := range []string{`2["a",{"b":[1,2]}]`, `27["a","\ud83d\ude00"]`, `2["a",-0.1e-7]`, "2[\"a\",\t{}\n]", `2["a",{"a":1,"a":2}]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, _, _ := counting()
		in, ok, err := p.Read(b, new(Gate), nil)
		if !ok {
			return
		}
		var whole []json.RawMessage
		digits := len(b[1:]) - len(strings.TrimLeft(string(b[1:]), "0123456789"))
		valid := json.Unmarshal(b[1+digits:], &whole) == nil && len(whole) > 0
		if err == nil && !valid {
			t.Fatalf("%q was read, and is no JSON", b)
		}
		for i, arg := range whole[min(1, len(whole)):] {
			if err == nil && !in.Event.TooLong && string(in.Event.Args[i]) != string(arg) {
				t.Fatalf("%q: argument %d is %q, want %q", b, i, in.Event.Args[i], arg)
			}
		}
	})
}

// TestGate fills what a client may have in flight.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, waited := counting()
		var g Gate
		var held []*Event
		take := func(gone chan struct{}) error {
			in, _, err := p.Read([]byte(`2["a"]`), &g, gone)
			if err == nil {
				held = append(held, in.Event)
			}
			return err
		}
		for range gateSlots {
			if err := take(nil); err != nil {
				t.Fatal(err)
			}
		}
		go held[0].Release()
		if err := take(nil); err != nil || waited.Load() > 1 {
			t.Errorf("behind a release: %v, %d waits", err, waited.Load())
		}
		began := time.Now()
		if err := take(nil); err == nil || time.Since(began) != gateWait {
			t.Errorf("got in after %v: %v", time.Since(began), err)
		}
		gone := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(gone) })
		began = time.Now()
		if err := take(gone); err == nil || time.Since(began) != time.Second {
			t.Errorf("waited %v for a client that is gone: %v", time.Since(began), err)
		}
		for _, e := range held[1:] {
			e.Release()
		}
		if g.used != 0 {
			t.Errorf("%d slots are left taken", g.used)
		}
	})
}

func TestAppend(t *testing.T) {
	if got := string(AppendAck(nil, []byte("12"), []byte(`{"a":1}`))); got != `312[{"a":1}]` {
		t.Errorf("ack is %s", got)
	}
	got := string(AppendEvent(nil, `a"b`, []json.RawMessage{[]byte(`{}`), []byte(`"x"`)}))
	if got != `2["a\"b",{},"x"]` {
		t.Errorf("event is %s", got)
	}
}
