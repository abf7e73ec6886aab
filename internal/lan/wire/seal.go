package wire

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
)

// Diverter is what a TLS connection must lie on to be carried here. TLS knows
// only of writes that end, and one that is cut short spoils it: so what it
// writes is caught, and goes to the kernel as everything else does, as far as
// the kernel takes it.
type Diverter interface {
	syscall.Conn
	// Divert has to take what is written from now on, in place of the kernel.
	// It keeps none of it.
	Divert(to func(b []byte))
}

// seal makes TLS records of what is to be written.
//
//	frames ─► tls.Conn ─► diverted: made ─► outbox ─► kernel
type seal struct {
	tls *tls.Conn

	mu   sync.Mutex // guards below; reading makes records too (RFC 8446 §4.6.3)
	made []byte     // records that nobody has taken yet
}

// below returns how a connection is read and written underneath: its descriptor,
// and its TLS, nil if there is none.
func below(conn net.Conn) (syscall.RawConn, *seal, error) {
	if over, ok := conn.(*tls.Conn); ok {
		under, ok := over.NetConn().(Diverter)
		if !ok {
			return nil, nil, errors.ErrUnsupported
		}
		raw, err := under.SyscallConn()
		if err != nil {
			return nil, nil, err
		}
		s := &seal{tls: over}
		under.Divert(s.catch)
		return raw, s, nil
	}
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	raw, err := sys.SyscallConn()
	return raw, nil, err
}

func (s *seal) catch(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = append(s.made, b...)
}

// records returns the records of b, behind those that reading has made. They
// must be written in the order of the calls.
func (s *seal) records(b []byte) ([]byte, error) {
	if _, err := s.tls.Write(b); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	made := s.made
	s.made = nil
	return made, nil
}
