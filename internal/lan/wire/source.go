package wire

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

// readSize is how much is read at once, in bytes.
const readSize = 8 << 10

type readBuffer [readSize]byte

// source reads a connection through a buffer that it holds only while there is
// something in it: who is silent costs none.
type source struct {
	raw     syscall.RawConn
	tls     io.Reader  // read instead of raw; nil: there is no TLS
	lone    [1]byte    // what is waited for through TLS, while nothing is buffered
	pool    *sync.Pool // of *readBuffer
	attempt func(fd uintptr) bool

	buf        *readBuffer // nil while nothing is buffered
	start, end int         // of what is buffered
	direct     []byte      // where to read to instead, if not nil
	n          int         // what the last attempt read
	err        error       // or its error
}

func newSource(raw syscall.RawConn, pool *sync.Pool) source { return source{raw: raw, pool: pool} }

// next returns the next n bytes, at most readSize; they are good until the next
// call.
func (s *source) next(n int) ([]byte, error) {
	for s.end-s.start < n {
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
	b := s.bytes()[:n]
	s.start += n
	return b, nil
}

// read fills p.
func (s *source) read(p []byte) error {
	n := copy(p, s.bytes())
	s.start += n
	for p = p[n:]; len(p) > 0; p = p[s.n:] {
		if len(p) < readSize {
			b, err := s.next(len(p))
			if err != nil {
				return err
			}
			copy(p, b)
			return nil
		}
		s.direct = p
		err := s.wait()
		s.direct = nil
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *source) bytes() []byte {
	if s.buf == nil {
		return nil
	}
	return s.buf[s.start:s.end]
}

// fill reads more into the buffer, waiting until there is something.
func (s *source) fill() error {
	if s.start > 0 && s.buf != nil {
		s.end = copy(s.buf[:], s.buf[s.start:s.end])
		s.start = 0
	}
	if err := s.wait(); err != nil {
		return err
	}
	s.end += s.n
	return nil
}

// wait runs attempts until one reads something.
func (s *source) wait() error {
	if s.tls != nil {
		return s.waitTLS()
	}
	if s.attempt == nil {
		s.attempt = s.try
	}
	if err := s.raw.Read(s.attempt); err != nil {
		return err
	}
	return s.err
}

// waitTLS reads something through TLS. It cannot be asked whether there is
// anything, so who is silent is waited for with a byte and not with a buffer.
func (s *source) waitTLS() error {
	to, waiting := s.direct, false
	if to == nil {
		s.release()
		if waiting = s.buf == nil; waiting {
			to = s.lone[:]
		} else {
			to = s.buf[s.end:]
		}
	}
	n, err := s.tls.Read(to)
	if s.n = n; n == 0 {
		return err // none: it is asked again
	}
	if waiting {
		s.buf = s.pool.Get().(*readBuffer)
		s.start, s.end = 0, 0
		s.buf[0] = s.lone[0]
	}
	return nil
}

// try reads what is there; false: nothing is, call again when there may be.
func (s *source) try(fd uintptr) bool {
	to := s.direct
	if to == nil {
		if s.buf == nil {
			s.buf = s.pool.Get().(*readBuffer)
			s.start, s.end = 0, 0
		}
		to = s.buf[s.end:]
	}
	for {
		n, err := readNow(fd, to)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			s.release()
			return false
		case err == nil && n == 0:
			err = io.EOF
		}
		s.n, s.err = max(n, 0), err
		return true
	}
}

// release gives an empty buffer back.
func (s *source) release() {
	if s.buf != nil && s.start == s.end {
		s.pool.Put(s.buf)
		s.buf, s.start, s.end = nil, 0, 0
	}
}
