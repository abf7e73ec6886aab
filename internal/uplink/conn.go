package uplink

import (
	"fmt"
	"net"
	"sync"
)

// conn is the network connection under the MQTT client. It is here because of
// what the client does not do: notice that somebody closed the connection under
// it, and survive some of the packets a broker could send.
type conn struct {
	net.Conn
	bottom *pipe

	check packetCheck // used by the one reader
	begun bool        // likewise: a byte has come

	writing sync.Mutex // one packet at a time

	mu    sync.Mutex
	cause error // why it was cut; nil: it was not. mu guards it.
}

// Read returns bytes of packets that the client can digest.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.begun {
		c.begun = true
		if p[0] == 'H' || p[0] == '<' { // HTTP/1.1 …, or a page; a CONNACK is 0x20
			c.cut(fmt.Errorf("%w: HTTP came where MQTT was expected", errPortal))
			return 0, c.why()
		}
	}
	if bad := c.check.scan(p[:n]); bad != nil {
		c.cut(bad)
		return 0, bad
	}
	if err != nil {
		// The client stays silent for ever about an error that reads "use of
		// closed network connection", so a cut has a text of its own.
		if own := c.why(); own != nil {
			err = own
		}
	}
	return n, err
}

// why returns what it was cut for, nil if it was not.
func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// cut closes the connection without a farewell, so that the broker publishes
// the last will. The first cause is the one reported. Safe concurrently.
func (c *conn) cut(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	_ = c.bottom.Close() // closing twice is fine; TLS would say good-bye first
}

// maxPacket bounds what the client allocates for one packet. Everything the
// contract lets the cloud send is smaller.
const maxPacket = 1 << 20

// packetCheck follows the packet borders in the byte stream from the broker
// and stops at a packet the client would fall over: one whose length makes it
// allocate up to 256 MiB, and a SUBACK with more answers than were asked for,
// which makes it index past a slice in a goroutine nobody can guard.
type packetCheck struct {
	state   int  // 0 type byte, 1 length, 2 body
	kind    byte // packet type of the current packet
	length  int
	shift   int
	pending int // bytes of the body still to come
}

func (k *packetCheck) scan(p []byte) error {
	const (
		atType = iota
		atLength
		atBody
	)
	for len(p) > 0 {
		switch k.state {
		case atType:
			k.kind, k.length, k.shift = p[0]>>4, 0, 0
			k.state = atLength
			p = p[1:]
		case atLength:
			k.length |= int(p[0]&0x7f) << k.shift
			k.shift += 7
			last := p[0]&0x80 == 0
			p = p[1:]
			if !last {
				if k.shift > 21 {
					return fmt.Errorf("%w: length of more than four bytes", errBadPacket)
				}
				continue
			}
			if err := k.allow(); err != nil {
				return err
			}
			k.pending = k.length
			k.state = atBody
			if k.pending == 0 {
				k.state = atType
			}
		case atBody:
			n := min(k.pending, len(p))
			p = p[n:]
			if k.pending -= n; k.pending == 0 {
				k.state = atType
			}
		}
	}
	return nil
}

func (k *packetCheck) allow() error {
	const suback = 9
	if k.length > maxPacket {
		return fmt.Errorf("%w: %d bytes", errBadPacket, k.length)
	}
	if k.kind == suback && k.length > 2+subscriptions {
		return fmt.Errorf("%w: SUBACK with %d answers", errBadPacket, k.length-2)
	}
	return nil
}

// ping asks the broker for a sign of life, unless a packet is being written:
// then it is that which must go. The client takes the answer for one of its own.
func (c *conn) ping() {
	if !c.writing.TryLock() {
		return
	}
	defer c.writing.Unlock()
	_, _ = c.Conn.Write([]byte{0xc0, 0}) // an error ends the client's reader, too
}

// Write keeps packets whole beside our own.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.Conn.Write(p)
}
