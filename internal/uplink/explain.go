package uplink

import (
	"context"
	"errors"
	"time"
)

// explained is an error with the name and the words that a look around gave it.
type explained struct {
	name, text string
	err        error
}

func (e *explained) Error() string { return e.text }
func (e *explained) Unwrap() error { return e.err }

// failureOf returns an error as the status tells it.
func failureOf(err error) *Failure {
	if e, ok := errors.AsType[*explained](err); ok && !errors.Is(err, errTakeover) {
		return newFailure(e.name, e)
	}
	return newFailure(nameOf(err), err)
}

// around is the last look around, and when it was.
type around struct {
	facts *Facts
	at    time.Time
	of    string // the name that led to it
}

// explain names the failure of a round in which no broker let us in: that of
// the attempt that got furthest. It looks around if that can tell more, at most
// every [probeAgain] for the same name.
func (u *Uplink) explain(ctx context.Context, failures []error) error {
	if len(failures) == 0 {
		return errLost // cannot be: there is a broker
	}
	worst, far := failures[0], -1
	for _, err := range failures {
		s := -1
		if at, ok := errors.AsType[*attemptError](err); ok {
			s = int(at.stage)
		}
		if s > far {
			worst, far = err, s
		}
	}
	name := nameOf(worst)
	switch name {
	case DNS, NoRoute, Timeout, BrokerDown, NoAnswer, TLS, Lost, CaptivePortal, Proxy:
	default:
		return worst
	}
	if u.around.of != name || time.Since(u.around.at) >= probeAgain {
		hosts := make([]string, len(u.brokers))
		for i, b := range u.brokers {
			hosts[i] = b.Host
		}
		u.around = around{facts: u.dialer.lookAround(ctx, hosts), at: time.Now(), of: name}
	}
	u.tell(func(st *Status) { st.Around = u.around.facts })
	named, text := diagnose(worst, u.around.facts)
	return &explained{name: named, text: text, err: worst}
}
