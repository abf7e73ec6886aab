package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Errors that end a link or keep it from coming up, each with a name of its own
// in the status.
var (
	errInterrupted  = errors.New("link interrupted on request")
	errSubscription = errors.New("broker refuses a subscription")
	errNoPuback     = errors.New("no publish confirmed for 30 s")
	errSilent       = errors.New("no sign of life on the line")
	errOverflow     = errors.New("more messages than the box could store in time")
	errUnderWay     = errors.New("command under way")
	errPanicked     = errors.New("message handling panicked")
	errBadPacket    = errors.New("malformed packet from the broker")
	errJournal      = errors.New("journal")
	errTooLarge     = errors.New("the broker does not take a message for its size")
	errParkedFull   = errors.New("no room for more parked events")
	errLost         = errors.New("connection lost")
	errCredentials  = errors.New("credentials")
	errCertificate  = errors.New("certificate of the box")
	errHandshake    = errors.New("tls handshake")
	errRenewed      = errors.New("link renewed with what is new on disk")
	errProxy        = errors.New("proxy")
	errPortal       = errors.New("captive portal")
	errClock        = errors.New("clock")
	errNoAnswer     = errors.New("the broker takes the connection and does not answer")
	errUnavailable  = errors.New("broker not available")
	errUpgrade      = errors.New("no websocket at this address")
	errTakeover     = errors.New("the broker ends each link soon after it came up, as it does when another box connects with the same id")
)

// What Windows says, where syscall's own names are never met.
const (
	wsaNetDown         = syscall.Errno(10050)
	wsaNetUnreachable  = syscall.Errno(10051)
	wsaRefused         = syscall.Errno(10061)
	wsaHostUnreachable = syscall.Errno(10065)
)

// nameOf sorts an error into the names a technician can act on: is it the
// cable, the name server, the broker, the certificate or the password? What an
// error alone cannot tell, [Facts] do.
func nameOf(err error) string {
	if err == nil {
		return ""
	}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		name string
		hit  bool
	}{
		{Interrupted, is(errInterrupted)},
		{ParkedFull, is(errParkedFull)},
		{JournalFault, is(errJournal)},
		{Subscription, is(errSubscription)},
		{Overflow, is(errOverflow)},
		{Renewed, is(errRenewed)},
		{Takeover, is(errTakeover)},
		{MessageSize, is(errTooLarge)},
		{Protocol, is(errBadPacket, errPanicked)},
		{CaptivePortal, is(errPortal)},
		{Proxy, is(errProxy)},
		{Clock, is(errClock)},
		{Certificate, is(errCertificate) || refusesOurs(err)},
		{Credentials, is(packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised,
			packets.ErrorRefusedIDRejected, errCredentials)},
		{NoAnswer, is(errNoAnswer)},
		{DNS, isType[*net.DNSError](err)},
		{NoRoute, is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, wsaNetUnreachable, wsaHostUnreachable, wsaNetDown)},
		{BrokerDown, is(syscall.ECONNREFUSED, wsaRefused, errUnavailable, packets.ErrorRefusedServerUnavailable)},
		{TLS, is(errHandshake) || isType[tls.RecordHeaderError](err) || isType[tls.AlertError](err) ||
			isType[*tls.CertificateVerificationError](err) || isType[x509.UnknownAuthorityError](err) ||
			isType[x509.HostnameError](err) || isType[x509.CertificateInvalidError](err)},
		{Timeout, is(errNoPuback, errSilent, context.DeadlineExceeded) || timedOut(err)},
		{Protocol, is(packets.ErrorRefusedBadProtocolVersion, packets.ErrorProtocolViolation, errUpgrade)},
	} {
		if c.hit {
			return c.name
		}
	}
	return Lost
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func timedOut(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// refusesOurs reports whether the broker ended TLS over the box's certificate.
func refusesOurs(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate")
}
