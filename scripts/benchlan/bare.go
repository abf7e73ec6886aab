//go:build linux

package main

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // the WebSocket handshake wants it
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// bare is the limit for a server in Go: a goroutine that reads for each client,
// and one write per client and event. It checks nothing, keeps nothing, and has
// no bound anywhere.
type bare struct {
	mu    sync.Mutex // guards below
	conns map[net.Conn]struct{}
}

// serveBare says its port on out and serves until it is killed.
func serveBare(out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(out, l.Addr().(*net.TCPAddr).Port)
	b := &bare{conns: make(map[net.Conn]struct{})}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go b.serve(c)
	}
}

func (b *bare) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 1024)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	key := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(key[:]))
	_, _ = c.Write(serverFrame(`0{"sid":"x","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`))
	defer func() {
		b.mu.Lock()
		delete(b.conns, c)
		b.mu.Unlock()
	}()
	for {
		text, err := readFrame(in)
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(text, "40"):
			_, err = c.Write(serverFrame(`40{"sid":"x"}`))
		case strings.HasPrefix(text, `420["join_room"`):
			b.mu.Lock()
			b.conns[c] = struct{}{}
			b.mu.Unlock()
			_, err = c.Write(serverFrame(`430[{"success":true}]`))
		case strings.HasPrefix(text, `421["tpv:heartbeat"`):
			_, err = c.Write(serverFrame(`431[{"success":true,"debounced":true}]`))
		case strings.HasPrefix(text, `42["tpv:log"`):
			b.tell(serverFrame(strings.Replace(text, "tpv:log", "terminal:log", 1)))
		}
		if err != nil {
			return
		}
	}
}

func (b *bare) tell(frame []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_, _ = c.Write(frame) // who is gone is found by its reader
	}
}

// readFrame reads a masked text of less than 64 KiB; clients here send no other.
func readFrame(in *bufio.Reader) (string, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:2]); err != nil {
		return "", err
	}
	size := int(head[1] & 0x7f)
	if size == 126 {
		if _, err := io.ReadFull(in, head[2:4]); err != nil {
			return "", err
		}
		size = int(binary.BigEndian.Uint16(head[2:]))
	}
	if _, err := io.ReadFull(in, head[4:8]); err != nil {
		return "", err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(in, text); err != nil {
		return "", err
	}
	for i := range text {
		text[i] ^= head[4+i%4]
	}
	return string(text), nil
}

func serverFrame(text string) []byte {
	b := []byte{0x81, byte(len(text))}
	if len(text) > 125 {
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	}
	return append(b, text...)
}
