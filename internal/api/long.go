package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/avoqado/avoqado-edge/internal/auth"
)

// verifyEvery is how often it is looked whether the caller of a long answer is
// still let in.
const verifyEvery = time.Second / 2

var errOther = errors.New("the token is good for something else now")

// whileIn returns a context for a long answer: it ends with the request, and within
// verifyEvery once the caller would not be let in again as at the start, unless the
// reason is the one forgiven. Whoever gets it calls done.
func (s *Server) whileIn(r *http.Request, g auth.Grant, forgiven error) (ctx context.Context, done func()) {
	ctx, cancel := context.WithCancel(r.Context())
	var looking sync.WaitGroup
	looking.Go(func() {
		tick := time.NewTicker(verifyEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := s.stillIn(r, g); err != nil && !errors.Is(err, forgiven) {
				cancel()
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		looking.Wait()
	}
}

// stillIn says why whoever was let in would not be let in again: a session ends
// with its token, also where a lease follows.
func (s *Server) stillIn(r *http.Request, was auth.Grant) error {
	if _, lan := addressOf(r); !lan {
		return nil
	}
	err := auth.ErrNoToken
	for _, token := range tokensOf(r) {
		var g auth.Grant
		if g, err = s.cfg.Auth.Verify(token); err == nil {
			switch {
			case g.Subject != was.Subject || g.Role != was.Role:
				err = errOther
			case !g.Lease.Equal(was.Lease):
				err = auth.ErrExpired
			}
			break
		}
	}
	return err
}
