package daemon

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/avoqado/avoqado-edge/internal/buildinfo"
	"github.com/avoqado/avoqado-edge/internal/discovery"
	"github.com/avoqado/avoqado-edge/internal/identity"
	"github.com/avoqado/avoqado-edge/internal/journal"
)

// How terminals find the box and know it for what it is.

func (d *Daemon) newAnnouncer() (*discovery.Announcer, error) {
	bound, err := netip.ParseAddrPort(d.lan.Addr().String())
	if err != nil {
		return nil, err
	}
	return discovery.New(discovery.Config{
		Mode: discovery.Mode(d.cfg.Discovery.Mode), Interfaces: d.cfg.Discovery.Interfaces,
		Box: d.id.Box, Venue: d.cfg.Box.Venue, Name: d.cfg.Box.Name, Address: bound.Addr(), Port: int(bound.Port()),
		TLS: d.certificate != nil, Fingerprint: d.fingerprint, Key: d.keyFingerprint(),
		Version: buildinfo.Read().Version, POSHub: d.cfg.LAN.POSHub,
		State: d.announcedState,
	}, d.log.With("part", "discovery"))
}

// card is what the box says of itself to whoever asks its address.
func (d *Daemon) card(nonce string) ([]byte, error) {
	if d.keyErr != nil {
		return nil, d.keyErr
	}
	return d.key.Seal(identity.Card{
		Box: d.id.Box, Venue: d.id.Venue, Name: d.cfg.Box.Name, Version: buildinfo.Read().Version,
		Host: discovery.Label(d.id.Box) + ".local", Addresses: d.boundAddresses(func(netip.Addr) bool { return true }),
		Path: discovery.SocketPath, TLS: d.certificate != nil, Fingerprint: d.fingerprint(),
		State: d.announcedState(), IssuedAt: d.clock.Now().Truncate(time.Second), Nonce: nonce,
	})
}

// fingerprint returns that of the box's CA; empty: it has none.
func (d *Daemon) fingerprint() string {
	if d.certificate == nil {
		return ""
	}
	return d.certificate.Fingerprint()
}

// keyFingerprint returns that of the box's key; empty: it cannot be read.
func (d *Daemon) keyFingerprint() string {
	if d.keyErr != nil {
		return ""
	}
	return d.key.Fingerprint()
}

// announcedState is what mDNS and the card say of the box: "full" while it
// refuses events of any class for want of room, or clients for want of places.
func (d *Daemon) announcedState() string {
	if d.journal.Level() >= journal.LevelNoService || d.lan != nil && d.lan.Full() {
		return discovery.StateFull
	}
	return discovery.StateOK
}

// lanAddresses lists where terminals reach the box from any network that is
// routed, as host:port, for the cloud to tell.
func (d *Daemon) lanAddresses() []string {
	return d.boundAddresses(func(a netip.Addr) bool { return !a.IsLoopback() && !a.IsLinkLocalUnicast() })
}

// pairedAddresses lists where devices on the LAN reach the box; with no network
// that is this machine.
func (d *Daemon) pairedAddresses() []string {
	if list := d.lanAddresses(); len(list) > 0 {
		return list
	}
	return d.boundAddresses(func(a netip.Addr) bool { return a.IsLoopback() })
}

// boundAddresses lists the addresses the LAN listener serves as host:port, IPv4
// first, without zones.
func (d *Daemon) boundAddresses(wanted func(netip.Addr) bool) []string {
	bound, err := netip.ParseAddrPort(d.lan.Addr().String())
	if err != nil {
		return nil
	}
	if !bound.Addr().IsUnspecified() {
		return []string{bound.String()}
	}
	ifaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, i := range ifaces {
		if p, err := netip.ParsePrefix(i.String()); err == nil && wanted(p.Addr()) {
			addrs = append(addrs, p.Addr().WithZone(""))
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	list := make([]string, 0, len(addrs))
	for _, a := range addrs {
		list = append(list, netip.AddrPortFrom(a, bound.Port()).String())
	}
	return list
}

// drawPairing draws the QR code of the box.
func (d *Daemon) drawPairing() ([]byte, error) {
	l := d.lanStatus()
	if l.Key == "" {
		return nil, errors.New("the box has no key to be known by: avoqado-edge status says why")
	}
	p := discovery.Pairing{Box: d.id.Box, Venue: d.id.Venue, Addresses: l.Addresses, TLS: l.TLS != nil, Key: l.Key}
	if l.TLS != nil {
		p.Fingerprint = l.TLS.Fingerprint
	}
	return discovery.DrawSVG(p.URI())
}
