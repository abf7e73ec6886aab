package boxtest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
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
	b, ca, file := newSecureBox(t)
	store := filepath.Join(t.TempDir(), "trust.p12")
	run(t, need(t, "keytool"), "-importcert", "-noprompt", "-alias", "box", "-file", file, "-keystore", store, "-storetype", "PKCS12", "-storepass", "only-a-CA")

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

// TestBrowserOpensTheBox has a Chromium with the box's CA installed open its
// pages by name and by address, and one without.
func TestBrowserOpensTheBox(t *testing.T) {
	browser, certutil, node := need(t, "chromium"), need(t, "certutil"), need(t, "node")
	if _, err := os.Stat(filepath.Join(clientDir("js"), "node_modules", "playwright-core")); err != nil {
		skip(t, "what drives the browser is not installed: run scripts/setup --browser")
	}
	b, _, file := newSecureBox(t)
	type visit struct {
		URL                    string
		Status                 int
		Text, Websocket, Error string
		Secure                 bool
	}
	name := fmt.Sprintf("https://avq-b1.local:%d/", b.port)
	open := func(trust bool) (visits []visit) {
		t.Helper()
		home := t.TempDir()
		db := filepath.Join(home, ".pki", "nssdb")
		if err := os.MkdirAll(db, 0o700); err != nil {
			t.Fatal(err)
		}
		run(t, certutil, "-d", "sql:"+db, "-N", "--empty-password")
		if trust {
			run(t, certutil, "-d", "sql:"+db, "-A", "-t", "C,,", "-n", "box", "-i", file)
		}
		cmd := exec.Command(node, filepath.Join(clientDir("js"), "browser.mjs"), browser, home, "https://"+b.Addr()+"/", name)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		for line := range strings.Lines(string(out)) {
			var said visit
			if err := json.Unmarshal([]byte(line), &said); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			visits = append(visits, said)
		}
		if err != nil || len(visits) != 2 {
			t.Fatalf("%v: %s %s", err, out, stderr.String())
		}
		return visits
	}
	for _, got := range open(true) {
		if got.Status != http.StatusOK || !got.Secure || got.Text == "" || !strings.HasPrefix(got.Websocket, `0{"sid"`) {
			t.Errorf("with the CA: %+v", got)
		}
	}
	for _, got := range open(false) {
		if got.Error != "net::ERR_CERT_AUTHORITY_INVALID" {
			t.Errorf("without the CA: %+v", got)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
