//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The packets of MQTT 3.1.1 that are spoken here.
const (
	connectPacket   = 0x10
	connackPacket   = 0x20
	publishPacket   = 0x30
	pubackPacket    = 0x40
	subscribePacket = 0x82
	qos1            = 0x02
)

// client is an MQTT client that costs little, for it runs beside what it measures.
type client struct {
	conn net.Conn
	in   *bufio.Reader

	mu  sync.Mutex // guards below
	out *bufio.Writer
	id  uint16
}

func dialBroker(addr, name string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 256<<10), out: bufio.NewWriterSize(conn, 64<<10)}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0}, word(name)...)
	if err = c.send(connectPacket, body); err == nil {
		err = c.flush()
	}
	if err == nil {
		var kind byte
		if kind, body, err = c.read(); err == nil && (kind != connackPacket || len(body) != 2 || body[1] != 0) {
			err = fmt.Errorf("broker refuses: %x %x", kind, body)
		}
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func word(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func (c *client) send(kind byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(kind, body)
}

func (c *client) put(kind byte, parts ...[]byte) error {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	head := []byte{kind}
	for more := true; more; {
		b := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b |= 0x80
		} else {
			more = false
		}
		head = append(head, b)
	}
	_, err := c.out.Write(head)
	for _, p := range parts {
		if err == nil {
			_, err = c.out.Write(p)
		}
	}
	return err
}

func (c *client) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Flush()
}

func (c *client) subscribe(topics ...string) error {
	body := []byte{0, 1}
	for _, t := range topics {
		body = append(append(body, word(t)...), 1)
	}
	return errors.Join(c.send(subscribePacket, body), c.flush())
}

// publish sends at QoS 1; who calls it flushes.
func (c *client) publish(topic string, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id++; c.id == 0 {
		c.id = 1
	}
	return c.put(publishPacket|qos1, word(topic), binary.BigEndian.AppendUint16(nil, c.id), payload)
}

func (c *client) read() (kind byte, body []byte, err error) {
	first, err := c.in.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, shift := 0, 0
	for {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift += 7; shift > 21 {
			return 0, nil, errors.New("length of more than four bytes")
		}
	}
	body = make([]byte, n)
	_, err = io.ReadFull(c.in, body)
	return first &^ 0x0f, body, err
}

// message takes a PUBLISH of QoS 1 apart and confirms it.
func (c *client) message(body []byte) (topic string, payload []byte, err error) {
	if len(body) < 4 {
		return "", nil, errors.New("short PUBLISH")
	}
	n := int(binary.BigEndian.Uint16(body)) + 2
	if len(body) < n+2 {
		return "", nil, errors.New("short PUBLISH")
	}
	if err := c.send(pubackPacket, body[n:n+2]); err != nil {
		return "", nil, err
	}
	if c.in.Buffered() == 0 {
		err = c.flush()
	}
	return string(body[2:n]), body[n+2:], err
}
