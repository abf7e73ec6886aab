package discovery

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// TestTextIsLegal holds what is announced of any configuration that is accepted
// to RFC 6763: keys of 1 to 9 printable characters, each once (§6.4), with a value
// (§6.5), at least one string (§6.1, what Apple's refuse), each of at most 255
// bytes and all together well below what fits one packet (§6.2); an instance name
// of one label (§4.1.1). And a client reads what was meant.
func TestTextIsLegal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := good()
		c.Box = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "box")
		c.Venue = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "venue")
		// What config takes: one line of at most 64 bytes, of any script.
		name := rapid.StringOfN(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune(`\".= áñ🥑🇲🇽a`))), 0, 64, 64).Filter(func(s string) bool {
			return !strings.ContainsFunc(s, unicode.IsControl)
		})
		c.Name = name.Draw(t, "name")
		c.Key, c.TLS, c.POSHub = strings.Repeat("0f", 32), true, rapid.Bool().Draw(t, "hub")
		c.Fingerprint = func() string { return strings.Repeat("a1", 32) }
		a, err := New(c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		a.renames = rapid.IntRange(0, maxRenames).Draw(t, "renames")
		rec := records{label: a.label(), services: a.services(StateLeaving, nil)}
		for _, s := range rec.services {
			if len(s.label) > maxLabel || strings.ContainsFunc(s.label, func(r rune) bool { return r > unicode.MaxASCII || r <= ' ' || r == '.' }) {
				t.Errorf("instance %q", s.label)
			}
			legal(t, rec, s, c)
		}
	})
}

func legal(t *rapid.T, rec records, s service, c Config) {
	a := &dns.A{Hdr: unique(rec.host(), dns.TypeA), A: []byte{10, 0, 0, 1}}
	raw, err := response([]dns.RR{text(s), rec.srv(s), a}, nil).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var m dns.Msg
	if err := m.Unpack(raw); err != nil {
		t.Fatal(err)
	}
	strs := m.Answer[0].(*dns.TXT).Txt
	if len(raw) > 700 || len(strs) == 0 {
		t.Errorf("%d strings, message of %d bytes", len(strs), len(raw))
	}
	var keys []string
	for _, one := range s.txt {
		key, value, has := strings.Cut(one, "=")
		if len(key) < 1 || len(key) > 9 || !has || value == "" || len(one) > 255 || slices.Contains(keys, strings.ToLower(key)) ||
			strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%q", one)
		}
		keys = append(keys, strings.ToLower(key))
	}
	if s.kind != Service {
		return
	}
	said := txt(readEntries(&m)[0].Text) // as discover does
	if said["venue"] != c.Venue || said["box"] != c.Box || said["state"] != StateLeaving || unescape(said["name"]) != c.Name {
		t.Errorf("%+v is read as %q", c, said)
	}
}

// unescape undoes what the DNS library does to what it shows.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
			continue
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}
