package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// pipe returns both ends of a TCP connection.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return client, server
}

func rawOf(t *testing.T, c net.Conn) syscall.RawConn {
	t.Helper()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// clientFrame returns a masked frame.
func clientFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, masked|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(n))
	}
	key := []byte{1, 2, 3, 4}
	b = append(b, key...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return b
}

// TestFrames reads what clients may and may not send, whole, in pieces of one
// byte and in pieces of a thousand.
func TestFrames(t *testing.T) {
	const limit = 100_000
	text, last := byte(opText), byte(final)
	long := strings.Repeat("añ", 30_000)
	tooLong := strings.Repeat("x", limit+1)
	for name, c := range map[string]struct {
		sent []byte
		want string // the first message
		err  error
	}{
		"empty":             {sent: clientFrame(last|text, ""), want: ""},
		"text":              {sent: clientFrame(last|text, "4hello"), want: "4hello"},
		"long":              {sent: clientFrame(last|text, long), want: long},
		"126":               {sent: clientFrame(last|text, strings.Repeat("y", 126)), want: strings.Repeat("y", 126)},
		"fragments":         {sent: join(clientFrame(text, "4he"), clientFrame(0, "l"), clientFrame(last, "lo")), want: "4hello"},
		"ping between":      {sent: join(clientFrame(text, "4he"), clientFrame(last|opPing, "p"), clientFrame(last, "llo")), want: "4hello"},
		"rune in two parts": {sent: join(clientFrame(text, "\xc3"), clientFrame(last, "\xb1")), want: "ñ"},

		"too long":            {sent: clientFrame(last|text, tooLong), err: closeError(statusTooLarge)},
		"too long in parts":   {sent: join(clientFrame(text, tooLong[:limit]), clientFrame(last, "xx")), err: closeError(statusTooLarge)},
		"huge announced":      {sent: []byte{last | text, masked | 127, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, err: closeError(statusTooLarge)},
		"not UTF-8":           {sent: clientFrame(last|text, "a\xff"), err: closeError(statusNotUTF8)},
		"not masked":          {sent: []byte{last | text, 1, 'a'}, err: closeError(statusProtocol)},
		"reserved bit":        {sent: clientFrame(last|0x40|text, "a"), err: closeError(statusProtocol)},
		"reserved opcode":     {sent: clientFrame(last|0x3, "a"), err: closeError(statusProtocol)},
		"reserved control":    {sent: clientFrame(last|0xB, "a"), err: closeError(statusProtocol)},
		"continues nothing":   {sent: clientFrame(last, "a"), err: closeError(statusProtocol)},
		"not continued":       {sent: join(clientFrame(text, "a"), clientFrame(last|text, "b")), err: closeError(statusProtocol)},
		"fragmented ping":     {sent: clientFrame(opPing, "a"), err: closeError(statusProtocol)},
		"long ping":           {sent: clientFrame(last|opPing, strings.Repeat("a", 126)), err: closeError(statusProtocol)},
		"close":               {sent: clientFrame(last|opClose, ""), err: errClosing},
		"close with status":   {sent: clientFrame(last|opClose, "\x03\xe8bye"), err: errClosing},
		"close of one byte":   {sent: clientFrame(last|opClose, "\x03"), err: closeError(statusProtocol)},
		"close with 1005":     {sent: clientFrame(last|opClose, "\x03\xed"), err: closeError(statusProtocol)},
		"close not in UTF-8":  {sent: clientFrame(last|opClose, "\x03\xe8\xff"), err: closeError(statusNotUTF8)},
		"close between parts": {sent: join(clientFrame(text, "a"), clientFrame(last|opClose, "")), err: errClosing},
	} {
		for _, piece := range []int{1, 1000, len(c.sent)} {
			if piece == 1 && len(c.sent) > 1000 {
				continue
			}
			t.Run(name, func(t *testing.T) {
				client, server := pipe(t)
				go func() {
					for b := c.sent; len(b) > 0; b = b[min(piece, len(b)):] {
						if _, err := client.Write(b[:min(piece, len(b))]); err != nil {
							return // it was not read to the end
						}
					}
				}()
				pool := &sync.Pool{New: func() any { return new(readBuffer) }}
				d := decoder{source: newSource(rawOf(t, server), pool), max: limit}
				_, got, err := d.next(func(byte, []byte) {})
				if !errors.Is(err, c.err) || string(got) != c.want {
					t.Errorf("got %d bytes and %v, want %d bytes and %v", len(got), err, len(c.want), c.err)
				}
			})
		}
	}
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// TestNoBuffer: a reader that waits holds none.
func TestNoBuffer(t *testing.T) {
	client, server := pipe(t)
	pool := &sync.Pool{New: func() any { return new(readBuffer) }}
	s := newSource(rawOf(t, server), pool)
	if s.attempt = s.try; s.try(fdOf(t, server)) || s.buf != nil {
		t.Fatal("a buffer is held though nothing came")
	}
	if _, err := client.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if b, err := s.next(2); err != nil || string(b) != "ab" {
		t.Fatalf("read %q, %v", b, err)
	}
	if s.try(fdOf(t, server)) || s.buf == nil {
		t.Fatal("the buffer was given back with a byte in it")
	}
	if b, err := s.next(1); err != nil || string(b) != "c" {
		t.Fatalf("read %q, %v", b, err)
	}
	if s.try(fdOf(t, server)) || s.buf != nil {
		t.Fatal("an empty buffer is held")
	}
}

func fdOf(t *testing.T, c net.Conn) (fd uintptr) {
	t.Helper()
	if err := rawOf(t, c).Control(func(f uintptr) { fd = f }); err != nil {
		t.Fatal(err)
	}
	return fd
}
