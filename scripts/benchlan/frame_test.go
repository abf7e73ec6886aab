//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestMessages(t *testing.T) {
	for name, m := range map[string]message{
		"log": logMessage(7), "heartbeat": heartbeatMessage(7), "payment": paymentMessage(7),
	} {
		m.set(0x123456789abcdef0, 0x0fedcba987654321)
		_, text, _ := bytes.Cut(m.frame, []byte("["))
		var event []json.RawMessage
		if err := json.Unmarshal(append([]byte("["), text...), &event); err != nil || len(event) != 2 {
			t.Fatalf("%s is no event: %v: %s", name, err, text)
		}
		if len(event[1]) != eventBytes {
			t.Errorf("%s has %d bytes, not %d", name, len(event[1]), eventBytes)
		}
		at := bytes.Index(event[1], []byte(stamp)) + len(stamp)
		if got := hex(event[1][at : at+stampDigits]); got != 0x123456789abcdef0 {
			t.Errorf("%s was sent at %#x", name, got)
		}
		if numbered := bytes.Contains(event[1], []byte("pay_0fedcba987654321")); numbered != (name == "payment") {
			t.Errorf("%s: numbered %t: %s", name, numbered, event[1])
		}
	}
}

func TestHeader(t *testing.T) {
	for _, size := range []int{1, 125, 126, 65535} {
		b := serverFrame(string(make([]byte, size)))
		head, got := header(b)
		if got != size || head+got != len(b) {
			t.Errorf("frame of %d bytes: header %d, payload %d", size, head, got)
		}
		if head, got = header(b[:head-1]); head != 0 || got != 0 {
			t.Errorf("half a header of %d bytes was read as %d, %d", size, head, got)
		}
	}
}
