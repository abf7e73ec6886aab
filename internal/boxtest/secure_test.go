package boxtest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// newSecureBox starts a box with a CA of its own and fetches the CA as a
// technician does. The file holds it, in PEM.
func newSecureBox(t *testing.T) (b *Box, ca []byte, file string) {
	t.Helper()
	b = StartBox(t, BoxConfig{Env: []string{"AVOQADO_EDGE_LAN_TLS=auto"}})
	resp, err := http.Get(b.URL() + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ca, err = io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v: %s", resp.Status, err, ca)
	}
	block, rest := pem.Decode(ca)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatalf("not one certificate: %s", ca)
	}
	sum := sha256.Sum256(block.Bytes)
	if st := b.Status(); st.LAN.TLS == nil || st.LAN.TLS.Fingerprint != hex.EncodeToString(sum[:]) || len(st.Problems) > 0 {
		t.Fatalf("status is %+v, %v", st.LAN.TLS, st.Problems)
	}
	file = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return b, ca, file
}

// TestClientsTrustTheBox has real clients, which are given the box's CA and
// nothing else to believe in, send and hear events over TLS.
func TestClientsTrustTheBox(t *testing.T) {
	t.Parallel()
	b, ca, file := newSecureBox(t)
	store := filepath.Join(t.TempDir(), "trust.p12")
	run(t, needs.Program(t, "keytool"), "-importcert", "-noprompt", "-alias", "box", "-file", file, "-keystore", store, "-storetype", "PKCS12", "-storepass", "only-a-CA")

	terminal := StartJava(t, ClientConfig{
		URL: "https://" + b.Addr(), Token: b.Token(event.Cashier, "staff_1", "AVQD-1"), Venue: Venue, Terminal: "AVQD-1",
		TrustStore: store, TrustStorePassword: "only-a-CA",
	})
	viewer := StartJS(t, ClientConfig{
		URL: "https://" + b.Addr(), Token: b.Token(event.Manager, "staff_2", ""), Venue: Venue,
		Options: map[string]any{"ca": string(ca), "transports": []string{"websocket"}},
	})
	poller := StartJS(t, ClientConfig{
		URL: "https://" + b.Addr(), Token: b.Token(event.Manager, "staff_3", ""), Venue: Venue,
		Options: map[string]any{"ca": string(ca), "transports": []string{"polling"}},
	})
	for _, c := range []*Client{terminal, viewer, poller} {
		c.Expect("connect", 30*time.Second)
		c.ExpectAck(0, 10*time.Second)
	}
	ack := terminal.EmitAck("payment_initiated", map[string]any{"paymentId": "p1", "amount": "120.50", "currency": "MXN", "venueId": Venue}, 10*time.Second)
	if !strings.Contains(string(ack), `"durability":"stored"`) {
		t.Errorf("ack is %s", ack)
	}
	for _, c := range []*Client{viewer, poller} {
		if got := c.ExpectEvent("payment_initiated", 10*time.Second); !strings.Contains(got.Raw, `"amount":"120.50"`) {
			t.Errorf("got %s", got.Raw)
		}
	}

	// Who has not been given the CA believes nothing.
	stranger := StartJava(t, ClientConfig{
		URL: "https://" + b.Addr(), Token: b.Token(event.Cashier, "staff_4", "AVQD-2"), Venue: Venue, Terminal: "AVQD-2",
	})
	stranger.Expect("connect_error", 30*time.Second)
}

// TestCASurvives: a box shows the same CA after a kill, so that nobody has to
// be given another.
func TestCASurvives(t *testing.T) {
	t.Parallel()
	b, ca, _ := newSecureBox(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	b.Kill()
	b.Start()
	c, err := tls.Dial("tcp", b.Addr(), &tls.Config{RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// TestBrowserOpensTheBox has people with the box's CA in their browser's store
// open the console page over TLS, by name and by address, without a warning,
// and log in. Others are warned: who has no CA, and who has another box's.
func TestBrowserOpensTheBox(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three browsers")
	}
	certutil := needs.Program(t, "certutil")
	box, _, ca := newSecureBox(t)
	_, _, otherCA := newSecureBox(t)
	person := func(ca string) *Browser {
		home := t.TempDir()
		db := filepath.Join(home, ".pki", "nssdb")
		if err := os.MkdirAll(db, 0o700); err != nil {
			t.Fatal(err)
		}
		run(t, certutil, "-d", "sql:"+db, "-N", "--empty-password")
		if ca != "" {
			run(t, certutil, "-d", "sql:"+db, "-A", "-t", "C,,", "-n", "box", "-i", ca)
		}
		return StartBrowserAt(t, home)
	}
	pages := []string{fmt.Sprintf("https://avq-b1.local:%d/", box.port), "https://" + box.Addr() + "/"}
	b := person(ca)
	for _, page := range pages {
		b.Open(page, "es-MX", "light", 360)
		b.See("h1", "Caja de v1", shown)
		var secure bool
		if b.take(step{Do: "eval", Text: "isSecureContext && location.protocol === 'https:'"}, &secure); !secure {
			t.Errorf("%s is no secure context", page)
		}
		out, errs, code := box.Command("token", "code")
		if code != 0 {
			t.Fatalf("token code: %d %s", code, errs)
		}
		b.Fill("#secret", sixDigits(t, out))
		b.Press("Enter")
		b.See("#mood", ".", shown)
		// What happens is seen as it happens: the page's own socket works, too.
		b.Click("a[href='#events']")
		orders(t, box, 0, 1)
		b.See(".event", `o0`, shown)
		var name string
		if b.take(step{Do: "eval", Text: "document.cookie"}, &name); name != "" {
			t.Errorf("scripts can read the cookie: %q", name)
		}
		b.Good("tls-phone")
	}
	for who, b := range map[string]*Browser{"who has no CA": person(""), "who has another box's CA": person(otherCA)} {
		for _, page := range pages {
			if why := b.Refuses(page); !strings.Contains(why, "ERR_CERT_AUTHORITY_INVALID") {
				t.Errorf("%s opens %s: %q", who, page, why)
			}
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
