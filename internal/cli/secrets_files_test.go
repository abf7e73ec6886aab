package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
)

// noneOf looks for each needle in all that was said.
func noneOf(t *testing.T, needles, said map[string]string) {
	t.Helper()
	for where, text := range said {
		if text == "" {
			t.Errorf("%s says nothing", where)
		}
		for what, needle := range needles {
			if i := strings.Index(text, needle); i >= 0 {
				t.Errorf("%s shows the %s: …%s", where, what, text[max(0, i-200):min(len(text), i+len(needle))])
			}
		}
	}
}

// bundle adds each file that diagnostics collects.
func (b *runningBox) bundle(t *testing.T, said map[string]string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	said["diagnostics"] = b.command(t, "diagnostics", "--out", file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := filesIn(t, raw)
	for _, name := range []string{"status.json", "doctor.json", "config.json", "process.json", "metrics.txt", "log.txt", "goroutines.txt", "journal.json", "events.jsonl"} {
		if _, there := files[name]; !there {
			t.Errorf("the bundle has no %s", name)
		}
	}
	for name, text := range files {
		if text != "" {
			said["bundle "+name] = text
		}
	}
}

// TestNoSecretOfAFile runs a box with every secret that lies in a file, those it
// made itself and the code of the console page, on a way to the cloud that fails
// in the most talkative way.
func TestNoSecretOfAFile(t *testing.T) {
	const (
		proxyPassword = "proxy-pw-5d1e"
		fileSecret    = "file-secret-0123456789-0123456789-xyz"
		brokerToken   = "broker-token-c0ffee-4711"
	)
	dir := t.TempDir()
	held := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := clientCertificate(t)
	keyFile := held("client.key", key)
	box := startRunUntil(t, map[string]string{
		"ACCESS_TOKEN_SECRET":                        "",
		"AVOQADO_EDGE_AUTH_ACCESS_TOKEN_SECRET_FILE": held("secret", fileSecret+"\n"),
		"AVOQADO_EDGE_REDIS_URL_FILE":                held("redis", "redis://:"+redisPassword+"@127.0.0.1:1/0\n"),
		"AVOQADO_EDGE_UPLINK_BROKERS":                "tls://127.0.0.1:1",
		"AVOQADO_EDGE_UPLINK_PROXY":                  "http://box:" + proxyPassword + "@127.0.0.1:1",
		"AVOQADO_EDGE_UPLINK_USERNAME":               "box",
		"AVOQADO_EDGE_UPLINK_PASSWORD_FILE":          held("token", brokerToken+"\n"),
		"AVOQADO_EDGE_UPLINK_CERT_FILE":              held("client.crt", cert),
		"AVOQADO_EDGE_UPLINK_KEY_FILE":               keyFile,
		"AVOQADO_EDGE_LAN_TLS":                       "auto",
		"AVOQADO_EDGE_LOG_LEVEL":                     "debug",
		"AVOQADO_EDGE_DISCOVERY_MODE":                "off",
		"AVOQADO_EDGE_LAN_LISTEN":                    "127.0.0.1:0",
		"AVOQADO_EDGE_BOX_VENUE":                     "v1",
	}, func(st api.Status) bool { return st.Uplink.Cause == "proxy" })

	var code struct{ Code string }
	if err := json.Unmarshal([]byte(box.command(t, "token", "code", "--json")), &code); err != nil || len(code.Code) != 6 {
		t.Fatalf("token code: %v %q", err, code.Code)
	}
	needles := map[string]string{
		"secret": fileSecret, "Redis password": redisPassword, "proxy password": proxyPassword, "broker's token": brokerToken,
	}
	keys := privateKeys(t, box.state, needles)
	if keys < 2 { // its own and its CA's
		t.Errorf("%d keys in the state directory", keys)
	}
	addKey(t, "client key", key, needles)

	said := map[string]string{
		"metrics": box.get(t, "/metrics"), "ca.crt": box.get(t, "/ca.crt"), "card": box.get(t, "/.well-known/avoqado-edge"),
	}
	for _, args := range [][]string{
		{"status"}, {"status", "--json"}, {"doctor"}, {"doctor", "--json"}, {"config", "show"}, {"config", "check"}, {"pair"}, {"outages"}, {"reload"},
	} {
		said[strings.Join(args, " ")] = box.command(t, args...)
	}
	box.bundle(t, said)
	said["log"] = box.stop(t)
	noneOf(t, needles, said)

	delete(said, "metrics") // six digits are in many a number
	for where, text := range said {
		if strings.Contains(text, `"`+code.Code+`"`) || strings.Contains(text, "code="+code.Code) || strings.Contains(text, code.Code[:3]+" "+code.Code[3:]) {
			t.Errorf("%s shows the code", where)
		}
	}
}

// privateKeys adds every private key below a folder, and counts them.
func privateKeys(t *testing.T, dir string, needles map[string]string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if raw, err := os.ReadFile(path); err == nil && strings.Contains(string(raw), "PRIVATE KEY") {
			n++
			addKey(t, filepath.Base(path), string(raw), needles)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// addKey adds each line of a private key.
func addKey(t *testing.T, name, text string, needles map[string]string) {
	t.Helper()
	for raw := []byte(text); ; {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			return
		}
		if !strings.Contains(block.Type, "PRIVATE") {
			continue
		}
		for line := range strings.Lines(string(pem.EncodeToMemory(block))) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") && len(line) > 12 {
				needles[name+" "+line[:4]] = line
			}
		}
	}
}

func clientCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "b1"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &own.PublicKey, own)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}
