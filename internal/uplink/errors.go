package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// Errors that end a link, each with a name of its own in the status.
var (
	errInterrupted  = errors.New("link interrupted on request")
	errSubscription = errors.New("broker refuses a subscription")
	errNoPuback     = errors.New("no publish confirmed for 30 s")
	errOverflow     = errors.New("more messages than the box could store in time")
	errPanicked     = errors.New("message handling panicked")
	errBadPacket    = errors.New("malformed packet from the broker")
	errJournal      = errors.New("journal")
	errLost         = errors.New("connection lost")
	errCredentials  = errors.New("credentials")
	errCertificate  = errors.New("certificate")
	errHandshake    = errors.New("tls handshake")
)

// nameOf sorts an error into the names a technician can act on: is it the
// cable, the name server, the broker, the certificate or the password?
func nameOf(err error) string {
	var (
		dns    *net.DNSError
		record tls.RecordHeaderError
		alert  tls.AlertError
		verify *tls.CertificateVerificationError
		ca     x509.UnknownAuthorityError
		host   x509.HostnameError
		bad    x509.CertificateInvalidError
		netErr net.Error
	)
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return ""
	case is(errInterrupted):
		return "interrupted"
	case is(errJournal):
		return "journal"
	case is(errSubscription):
		return "subscription"
	case is(errOverflow):
		return "overflow"
	case is(errBadPacket, errPanicked):
		return "protocol"
	case errors.As(err, &dns):
		return "dns"
	case is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL):
		return "no_route"
	case is(syscall.ECONNREFUSED):
		return "refused"
	case is(errCertificate, errHandshake), errors.As(err, &record), errors.As(err, &alert), errors.As(err, &verify),
		errors.As(err, &ca), errors.As(err, &host), errors.As(err, &bad):
		return "tls"
	case is(packets.ErrorRefusedBadUsernameOrPassword, packets.ErrorRefusedNotAuthorised,
		packets.ErrorRefusedIDRejected, errCredentials):
		return "credentials"
	case is(errNoPuback, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "timeout"
	case is(packets.ErrorRefusedBadProtocolVersion, packets.ErrorRefusedServerUnavailable,
		packets.ErrorProtocolViolation):
		return "protocol"
	}
	return "lost"
}
