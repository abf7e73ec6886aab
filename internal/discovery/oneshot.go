package discovery

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/grandcat/zeroconf"
	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// oneShots lists the pauses before each time that the question is asked: what
// just changed is known a moment later, and Wi-Fi loses multicast.
func oneShots() []time.Duration {
	ms := time.Millisecond
	return []time.Duration{0, 250 * ms, 250 * ms, 500 * ms, 1000 * ms}
}

// askOnce asks for boxes from ports of its own (§5.1), beside the listener on
// port 5353: the answers come to this device alone. They come where multicast
// to devices is dropped but not multicast from them, where another program has
// port 5353, and from avahi also within the second in which it says nothing to
// all. It returns when ctx ends.
func askOnce(ctx context.Context, nics []net.Interface, entries chan<- *zeroconf.ServiceEntry) {
	q := new(dns.Msg).SetQuestion(Service+"."+domain, dns.TypePTR)
	q.RecursionDesired = false
	raw, err := q.Pack()
	if err != nil {
		return // cannot be: it is a constant
	}
	var all sync.WaitGroup
	defer all.Wait()
	for i := range nics {
		for _, open := range []func(*net.Interface) (net.PacketConn, *net.UDPAddr, error){asker4, asker6} {
			conn, to, err := open(&nics[i])
			if err != nil {
				continue // the other IP version may do
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			all.Go(func() {
				for _, pause := range oneShots() {
					if sleep(ctx, pause) != nil {
						return
					}
					_, _ = conn.WriteTo(raw, to) // what is not sent is asked again
				}
			})
			all.Go(func() {
				defer stop()
				hearOnce(ctx, conn, entries)
			})
		}
	}
}

func asker4(i *net.Interface) (net.PacketConn, *net.UDPAddr, error) {
	c, err := net.ListenPacket("udp4", ":0") //nolint:noctx // binds a port, waits for nothing
	if err != nil {
		return nil, nil, err
	}
	p := ipv4.NewPacketConn(c)
	if err := p.SetMulticastInterface(i); err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	_ = p.SetMulticastTTL(255) // §11
	return c, group4(), nil
}

func asker6(i *net.Interface) (net.PacketConn, *net.UDPAddr, error) {
	c, err := net.ListenPacket("udp6", "[::]:0") //nolint:noctx // likewise
	if err != nil {
		return nil, nil, err
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetMulticastInterface(i); err != nil {
		_ = c.Close()
		return nil, nil, err
	}
	_ = p.SetMulticastHopLimit(255)
	to := group6()
	to.Zone = i.Name
	return c, to, nil
}

// hearOnce passes on what answers until the socket is closed.
func hearOnce(ctx context.Context, conn net.PacketConn, entries chan<- *zeroconf.ServiceEntry) {
	buf := make([]byte, maxPacket)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dns.Msg
		if m.Unpack(buf[:n]) != nil || !m.Response {
			continue // anybody can send anything
		}
		for _, e := range readEntries(&m) {
			select {
			case entries <- e:
			case <-ctx.Done():
				return
			}
		}
	}
}

// readEntries takes the boxes from an answer that says all there is about them,
// as responders do (RFC 6763 §12.1).
func readEntries(m *dns.Msg) (list []*zeroconf.ServiceEntry) {
	records := append(m.Answer, m.Extra...)
	for _, rr := range records {
		srv, ok := rr.(*dns.SRV)
		if !ok || !strings.HasSuffix(strings.ToLower(srv.Hdr.Name), "."+Service+"."+domain) {
			continue
		}
		label := srv.Hdr.Name[:len(srv.Hdr.Name)-len("."+Service+"."+domain)]
		e := zeroconf.NewServiceEntry(label, Service, domain)
		e.HostName, e.Port, e.TTL = srv.Target, int(srv.Port), srv.Hdr.Ttl
		for _, other := range records {
			name := other.Header().Name
			switch other := other.(type) {
			case *dns.TXT:
				if equalName(name, srv.Hdr.Name) {
					e.Text = other.Txt
				}
			case *dns.A:
				if equalName(name, srv.Target) {
					e.AddrIPv4 = append(e.AddrIPv4, other.A)
				}
			case *dns.AAAA:
				if equalName(name, srv.Target) {
					e.AddrIPv6 = append(e.AddrIPv6, other.AAAA)
				}
			}
		}
		if len(e.AddrIPv4)+len(e.AddrIPv6) > 0 {
			list = append(list, e)
		}
	}
	return list
}
