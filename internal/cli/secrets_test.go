package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/api"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// What nobody may read in a log line, a metric or an answer to an operator.
const (
	previousSecret = "previous-secret-0123456789-0123456789-abc"
	mqttPassword   = "mqtt-pw-7f3a"
	redisPassword  = "redis-password-91bc"
	customer       = "Guadalupe Cienfuegos" // in payloads
)

// TestNoSecretInAnyLine runs the daemon with the most talkative log, has it
// meet every sort of token and payload, good and bad, and reads all it said.
func TestNoSecretInAnyLine(t *testing.T) {
	brokerURL := startBroker(t)
	box := startRun(t, map[string]string{
		"ACCESS_TOKEN_SECRET":             testSecret,
		"ACCESS_TOKEN_SECRET_PREVIOUS":    previousSecret,
		"REDIS_URL":                       "redis://:" + redisPassword + "@127.0.0.1:1/0",
		"AVOQADO_EDGE_UPLINK_BROKERS":     brokerURL,
		"AVOQADO_EDGE_UPLINK_USERNAME":    "box",
		"AVOQADO_EDGE_UPLINK_PASSWORD":    mqttPassword,
		"AVOQADO_EDGE_LOG_LEVEL":          "debug",
		"AVOQADO_EDGE_DISCOVERY_MODE":     "off",
		"AVOQADO_EDGE_LAN_LISTEN":         "127.0.0.1:0",
		"AVOQADO_EDGE_BOX_VENUE":          "v1",
		"AVOQADO_EDGE_UPLINK_COMPRESS":    "true",
		"AVOQADO_EDGE_LAN_PING_INTERVAL":  "1s",
		"AVOQADO_EDGE_JOURNAL_RETAIN_FOR": "1h",
	})
	needles := map[string]string{
		"secret": testSecret, "previous secret": previousSecret, "MQTT password": mqttPassword,
		"Redis password": redisPassword, "payload": customer,
	}
	for name, token := range presentTokens(t, box.url) {
		needles["token "+name] = token
		needles["signature of token "+name] = token[strings.LastIndexByte(token, '.')+1:]
	}
	sendPayloads(t, box.url)
	badConnections(t, box.url)
	badBroadcasts(t, brokerURL, box)

	said := map[string]string{
		"metrics":            box.get(t, "/metrics"),
		"status --json":      box.command(t, "status", "--json"),
		"status":             box.command(t, "status"),
		"config show":        box.command(t, "config", "show"),
		"config show --json": box.command(t, "config", "show", "--json"),
		"config check":       box.command(t, "config", "check"),
		"journal stats":      box.command(t, "journal", "stats", "--json"),
		"events list":        box.command(t, "events", "list"),
		"events list --json": box.command(t, "events", "list", "--json"),
	}
	box.bundle(t, said)
	said["log"] = box.stop(t)
	noneOf(t, needles, said)
	// It was asked to talk, and did meet what it was to meet.
	for _, want := range []string{`"level":"DEBUG"`, `"msg":"handshake refused"`, `"msg":"box stopped"`} {
		if !strings.Contains(said["log"], want) {
			t.Errorf("the log does not say %s:\n%s", want, said["log"])
		}
	}
	if !strings.Contains(said["events list"], "payment_completed") {
		t.Errorf("no payment was stored:\n%s", said["events list"])
	}
}

// A configuration that is refused is not quoted where it holds a secret.
func TestNoSecretInConfigurationErrors(t *testing.T) {
	for name, env := range map[string]string{
		"password in a broker's URL": "AVOQADO_EDGE_UPLINK_BROKERS=tcp://box:" + mqttPassword + "@127.0.0.1:1883",
		"proxy":                      "AVOQADO_EDGE_UPLINK_PROXY=https://box:" + mqttPassword + "@127.0.0.1:3128",
		"Redis URL":                  "REDIS_URL=nonsense://:" + mqttPassword + "@127.0.0.1",
		"password alone":             "AVOQADO_EDGE_UPLINK_PASSWORD=" + mqttPassword,
		"short secret":               "ACCESS_TOKEN_SECRET=" + mqttPassword,
	} {
		cmd := exec.CommandContext(t.Context(), "avoqado-edge", "config", "check")
		cmd.Env = append(os.Environ(), "AVOQADO_EDGE_BOX_VENUE=v1", "AVOQADO_EDGE_STATE_DIR="+t.TempDir(),
			"AVOQADO_EDGE_AUTH_ACCESS_TOKEN_SECRET="+testSecret, env)
		if strings.HasPrefix(env, "ACCESS_TOKEN_SECRET=") {
			cmd.Env = append(cmd.Env, "AVOQADO_EDGE_AUTH_ACCESS_TOKEN_SECRET=")
		}
		said, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != ExitUsage {
			t.Errorf("%s: ended with %v: %s", name, err, said)
		}
		if bytes.Contains(said, []byte(mqttPassword)) || bytes.Contains(said, []byte(testSecret)) {
			t.Errorf("%s is shown: %s", name, said)
		}
	}
}

// presentTokens shows the box good and bad tokens from every source there is,
// and returns them.
func presentTokens(t *testing.T, boxURL string) map[string]string {
	t.Helper()
	stranger, err := minter([]byte(strings.Repeat("another-secret-", 3)), "v1")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := minter([]byte(testSecret), "v2")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	keep := func(name string, token string, err error) {
		if err != nil {
			t.Fatal(err)
		}
		all[name] = token
	}
	for _, source := range []string{"auth", "header", "query", "cookie"} {
		token := mintToken(t, "good-"+source)
		keep("good "+source, token, nil)
		token, err := stranger(event.Manager, "bad-"+source, "")
		keep("forged "+source, token, err)
		token, err = elsewhere(event.Manager, "other-"+source, "")
		keep("of another venue "+source, token, err)
		keep("garbled "+source, "eyJ.garbled-"+source+".c2lnbmF0dXJl"+source, nil)
	}
	for name, token := range all {
		cfg := simulate.ClientConfig{URL: boxURL, Header: http.Header{}}
		switch name[strings.LastIndexByte(name, ' ')+1:] {
		case "auth":
			cfg.Auth = map[string]any{"token": token}
		case "header":
			cfg.Header.Set("Authorization", "Bearer "+token)
		case "query":
			cfg.URL += "/?token=" + url.QueryEscape(token)
		case "cookie":
			cfg.Header.Set("Cookie", "accessToken="+token)
		}
		c, err := simulate.Dial(t.Context(), cfg)
		if good := strings.HasPrefix(name, "good"); good != (err == nil) {
			t.Errorf("token %s: %v", name, err)
		}
		if err == nil {
			_ = c.Close()
		}
		post(t, boxURL, token, `{"event":"menu_updated","payload":{"reason":"`+customer+`"}}`)
	}
	return all
}

func mintToken(t *testing.T, subject string) string {
	t.Helper()
	mint, err := minter([]byte(testSecret), "v1")
	if err != nil {
		t.Fatal(err)
	}
	token, err := mint(event.Manager, subject, "")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sendPayloads sends a customer's name in events that are taken and in events
// that are not, over the socket and over HTTP.
func sendPayloads(t *testing.T, boxURL string) {
	t.Helper()
	token := mintToken(t, "cashier")
	c, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: boxURL, Auth: map[string]any{"token": token}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	name := `"` + customer + `"`
	for kind, payload := range map[string]string{
		"payment_completed": `{"paymentId":"p1","amount":"120.50","currency":"MXN","venueId":"v1","customerName":` + name + `}`,
		"payment_initiated": `{"paymentId":{"of":` + name + `},"venueId":"v1"}`,
		"payment_failed":    `{"paymentId":"p2","venueId":"v9","customerName":` + name + `}`,
		"order_created":     `[` + name + `]`,
		"tpv:log":           `{"level":"error","message":` + name + `}`,
		"join_room":         `{"roomType":` + name + `}`,
		"no_such_event":     `{"customerName":` + name + `}`,
	} {
		post(t, boxURL, token, `{"event":"`+kind+`","payload":`+payload+`}`)
		if kind == "no_such_event" {
			_ = c.Emit(ctx, kind, json.RawMessage(payload))
			continue
		}
		if _, err := c.EmitAck(ctx, kind, json.RawMessage(payload)); err != nil {
			t.Errorf("%s has no answer: %v", kind, err)
		}
	}
	post(t, boxURL, token, `{"event":"payment_completed","payload":{"customerName":`+name)
}

func post(t *testing.T, boxURL, token, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, boxURL+"/api/v1/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// badConnections does what no Socket.IO client does, with a token in hand.
func badConnections(t *testing.T, boxURL string) {
	t.Helper()
	token := url.QueryEscape(mintToken(t, "odd"))
	for _, path := range []string{
		"/socket.io/?EIO=4&transport=pigeon&token=" + token,
		"/socket.io/?EIO=3&transport=polling&token=" + token,
		"/socket.io/?EIO=4&transport=polling&sid=" + token,
		"/socket.io/?EIO=4&transport=websocket&token=" + token,
		"/api/v1/stats?token=" + token,
		"/nowhere?token=" + token,
	} {
		resp, err := http.Get(boxURL + path)
		if err != nil {
			continue // closed without an answer
		}
		_ = resp.Body.Close()
	}
}

// badBroadcasts sends what a broken back-end might, and waits until the box
// has looked at it.
func badBroadcasts(t *testing.T, brokerURL string, box *runningBox) {
	t.Helper()
	access := cloud.Access{Broker: brokerURL}
	topic := cloud.Prefix("v1") + "/broadcasts"
	for _, body := range []string{
		`{"id":"b-1","event":"system_alert","payload":{"message":"` + customer,
		`{"id":"b-2","event":"no_such_event","payload":{"message":"` + customer + `"}}`,
		`"` + customer + `"`,
	} {
		if err := cloud.Publish(t.Context(), access, topic, false, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	awaitStatus(t, box, func(st api.Status) bool { return st.Uplink.Rejected == 3 })
}

func startBroker(t *testing.T) string {
	t.Helper()
	broker, err := cloud.ListenBroker("127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := broker.Run(ctx); err != nil {
			t.Errorf("broker: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return broker.URL()
}

// runningBox is `run` as a process of its own.
type runningBox struct {
	cmd    *exec.Cmd
	said   *bytes.Buffer // complete once stop has returned
	state  string
	socket string
	url    string
}

func startRun(t *testing.T, env map[string]string) *runningBox {
	t.Helper()
	return startRunUntil(t, env, func(st api.Status) bool { return st.Uplink.State == "online" })
}

func startRunUntil(t *testing.T, env map[string]string, good func(api.Status) bool) *runningBox {
	t.Helper()
	state := t.TempDir()
	box := &runningBox{
		cmd: exec.Command("avoqado-edge", "run"), said: &bytes.Buffer{}, state: state,
		socket: filepath.Join(state, "avoqado-edge.sock"),
	}
	box.cmd.Stdout, box.cmd.Stderr = box.said, box.said
	box.cmd.Env = append(os.Environ(), "AVOQADO_EDGE_STATE_DIR="+state, "AVOQADO_EDGE_SOCKET="+box.socket)
	for name, value := range env {
		box.cmd.Env = append(box.cmd.Env, name+"="+value)
	}
	if err := box.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if box.cmd.ProcessState == nil {
			_ = box.cmd.Process.Kill()
			_ = box.cmd.Wait()
		}
	})
	st := awaitStatus(t, box, good)
	box.url = "http://" + st.LAN.Address
	return box
}

func awaitStatus(t *testing.T, box *runningBox, good func(api.Status) bool) api.Status {
	t.Helper()
	client := api.NewClient(box.socket)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		st, err := askStatus(t.Context(), client)
		if err == nil && good(st) {
			return st
		}
		if time.Now().After(deadline) {
			t.Fatalf("the box is not as it should be: %v %+v", err, st)
		}
	}
}

func (b *runningBox) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := http.Get(b.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v", path, resp.Status, err)
	}
	return string(raw)
}

// command runs another command in the environment of the box, and returns what
// it says on both streams.
func (b *runningBox) command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "avoqado-edge", args...)
	cmd.Env = b.cmd.Env
	said, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState.ExitCode() != ExitDegraded {
		t.Errorf("%v: %v: %s", args, err, said)
	}
	return string(said)
}

// stop stops the box and returns all it said.
func (b *runningBox) stop(t *testing.T) string {
	t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Wait(); err != nil {
		t.Errorf("run ended with %v", err)
	}
	return b.said.String()
}
