package discovery

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/avoqado/avoqado-edge/internal/identity"
)

func TestPairingSurvivesTheQRCode(t *testing.T) {
	p := Pairing{
		Box: "box_1", Venue: "venue-1", Addresses: []string{"192.168.1.10:8080", "[fd00::1]:8080"}, TLS: true,
		Fingerprint: strings.Repeat("a1", 32), Key: strings.Repeat("0f", 32),
	}
	got, err := ParsePairing(p.URI())
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%s\nis read as %+v, %v", p.URI(), got, err)
	}
	p.Addresses = []string{"1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3", "4.4.4.4:4", "5.5.5.5:5"}
	if got, err := ParsePairing(p.URI()); err != nil || len(got.Addresses) != MaxPaired {
		t.Errorf("%+v, %v", got, err)
	}
	for name, uri := range map[string]string{
		"a page":         "https://example.com/pair?v=1",
		"nothing":        "",
		"newer":          strings.Replace(p.URI(), "v=1", "v=2", 1),
		"no box":         strings.Replace(p.URI(), "box=box_1", "box=", 1),
		"short key":      strings.Replace(p.URI(), strings.Repeat("0f", 32), "0f", 1),
		"a name":         strings.Replace(p.URI(), "1.1.1.1:1", "evil.example:80", 1),
		"an odd address": strings.Replace(p.URI(), "1.1.1.1:1", "1.1.1.1", 1),
	} {
		if got, err := ParsePairing(uri); err == nil {
			t.Errorf("%s: read as %+v", name, got)
		}
	}
}

func TestSpread(t *testing.T) {
	for net, want := range map[string]int{
		"192.168.1.10/24": 253, "10.0.3.4/8": 253, "192.168.1.1/30": 1, "192.168.1.0/31": 1, "192.168.1.1/32": 0,
	} {
		list := spread([]netip.Prefix{netip.MustParsePrefix(net), netip.MustParsePrefix(net)})
		if len(list) != want {
			t.Errorf("%s: %d addresses, want %d", net, len(list), want)
		}
		for _, a := range list {
			if !netip.MustParsePrefix(net).Masked().Contains(a) || a == netip.MustParsePrefix(net).Addr() {
				t.Errorf("%s: asks %s", net, a)
			}
		}
	}
}

func TestCardListsItsAddress(t *testing.T) {
	has := []string{"192.168.1.10:8080", "[fe80::1]:8080"}
	for address, want := range map[string]bool{
		"192.168.1.10:8080": true, "[fe80::1%eth0]:8080": true, "[::ffff:192.168.1.10]:8080": true,
		"192.168.1.11:8080": false, "192.168.1.10:8081": false,
	} {
		if lists(has, netip.MustParseAddrPort(address)) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}

// TestImpostors: who shows the card of a real box is not taken for it, under
// whatever name, be the card relayed, recorded, or changed.
func TestImpostors(t *testing.T) {
	key, err := identity.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := identity.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	seal := func(k identity.Key, nonce string, addresses ...string) []byte {
		raw, err := k.Seal(identity.Card{Box: "b1", Venue: "v1", State: StateOK, Addresses: addresses, Nonce: nonce})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	const elsewhere = "192.168.1.10:8080"
	for name, c := range map[string]struct {
		show func(nonce, own string) []byte
		want string // empty: it is the box
	}{
		"the box":                 {func(nonce, own string) []byte { return seal(key, nonce, elsewhere, own) }, ""},
		"relays its card":         {func(nonce, _ string) []byte { return seal(key, nonce, elsewhere) }, "at another address"},
		"recorded it":             {func(_, own string) []byte { return seal(key, "n", own) }, "another question"},
		"recorded one for no one": {func(_, own string) []byte { return seal(key, "", own) }, "another question"},
		"signs one of its own":    {func(nonce, own string) []byte { return seal(stolen, nonce, own) }, "its key is not"},
		"relays, and says it is here": {func(nonce, own string) []byte {
			return bytes.ReplaceAll(seal(key, nonce, elsewhere), []byte(`"`+elsewhere+`"`), []byte(`"`+own+`"`))
		}, "at another address"},
	} {
		var own string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(c.show(r.URL.Query().Get("nonce"), own))
		}))
		own = server.Listener.Addr().String()
		_, port, _ := net.SplitHostPort(own)
		for _, address := range []string{own, "localhost:" + port} {
			r := Find(t.Context(), Search{Known: []string{address}, Browse: -1, Key: key.Fingerprint()})
			switch {
			case c.want == "" && (len(r.Found) != 1 || !r.Found[0].Pinned):
				t.Errorf("%s at %s: %+v", name, address, r)
			case c.want != "" && (len(r.Found) > 0 || len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Refused, c.want)):
				t.Errorf("%s at %s: %+v", name, address, r)
			}
		}
		server.Close()
	}
}

// TestPosed: without a pin two of one name and two keys are both shown, with a
// warning.
func TestPosed(t *testing.T) {
	var known []string
	for range 2 {
		key, err := identity.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			own, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
			raw, _ := key.Seal(identity.Card{Box: "b1", Venue: "v1", State: StateOK, Addresses: []string{own.String()}, Nonce: r.URL.Query().Get("nonce")})
			_, _ = w.Write(raw)
		}))
		defer server.Close()
		known = append(known, server.Listener.Addr().String())
	}
	if r := Find(t.Context(), Search{Known: known, Browse: -1}); len(r.Found) != 2 || r.Advice != adviceTwice {
		t.Errorf("%+v", r)
	}
	if r := Find(t.Context(), Search{Known: known[:1], Browse: -1}); len(r.Found) != 1 || r.Advice != "" {
		t.Errorf("%+v", r)
	}
}

// TestOneOfTwoGoesFirst: of two that probe at once exactly one yields, and
// nobody yields to itself.
func TestOneOfTwoGoesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := func(name string) []dns.RR {
			var list []dns.RR
			for range rapid.IntRange(1, 3).Draw(t, "n") {
				a := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)
				list = append(list, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: a})
			}
			return list
		}
		a, b := records("a.local."), records("A.local.")
		first, second := goesFirst(a, b), goesFirst(b, a)
		if reflect.DeepEqual(sorted(a), sorted(b)) {
			if first || second {
				t.Error("one yields to itself")
			}
		} else if first == second {
			t.Errorf("%v and %v: both go first: %v", a, b, first)
		}
	})
}

func TestRenamedLabelFits(t *testing.T) {
	c := good()
	c.Box = strings.Repeat("x", 64)
	a, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	for a.renames = range maxRenames {
		if label := a.label(); len(label) > maxLabel {
			t.Errorf("%q has %d bytes", label, len(label))
		}
	}
}

func TestPOSHubIsNeverTheHub(t *testing.T) {
	c := good()
	c.POSHub = true
	a, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	list := a.services(StateOK, nil)
	if len(list) != 2 || list[1].kind != posKind || !strings.HasPrefix(list[1].label, "Avoqado-POS-") || len(list[1].label) != 18 {
		t.Fatalf("announces %+v", list)
	}
	said := txt(list[1].txt)
	if said["hub"] != "0" || said["venue"] != "venue_1" || said["did"] != "box1" || said["kds"] != "" || said["boot"] == "" {
		t.Errorf("says %v", said)
	}
}
