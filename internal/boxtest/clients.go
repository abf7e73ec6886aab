package boxtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

// ClientConfig says how a real client connects.
type ClientConfig struct {
	URL   string // http://127.0.0.1:port
	Token string
	Venue string // joined on every connect; the answer is the ack with id 0

	Terminal string // serial, Java only
	Table    string // joined on every connect if set, Java only; ack id -1

	// TrustStore holds all that the client believes in, over TLS; Java only.
	// Empty: what Java brings.
	TrustStore, TrustStorePassword string

	// Options are laid over the Socket.IO client's own, JS only, such as
	// {"transports": ["polling"]}.
	Options map[string]any
}

// Line is one thing that happened to a client.
type Line struct {
	Kind      string `json:"t"` // connect, disconnect, connect_error, event, ack
	Name      string // of an event
	ID        int    // of an ack
	Raw       string // JSON array of an event or ack as it came over the wire
	Error     string // of an ack that did not come
	Reason    string // of a disconnect
	Message   string // of a connect_error
	SID       string // of a connect
	Recovered bool   // of a connect: the server restored the session (JS only)
	PID       string // of a connect: what names the session to the server (JS only)

	At time.Time `json:"-"` // when the test read it

	seen bool // an Expect has returned it
}

// Payload returns the payload of an event or the answer in an ack, byte for
// byte as it came over the wire; nil if there is none.
func (l Line) Payload() json.RawMessage {
	var array []json.RawMessage
	if json.Unmarshal([]byte(l.Raw), &array) != nil || len(array) == 0 {
		return nil
	}
	if l.Kind == "event" {
		array = array[1:]
	}
	if len(array) == 0 {
		return nil
	}
	return array[0]
}

// Client is a real Socket.IO client in a process of its own. Its methods may be
// called concurrently, those that can end the test from the test's goroutine
// only.
type Client struct {
	t       testing.TB
	name    string
	process *process
	stderr  *output

	in      sync.Mutex // one command at a time
	stdin   io.WriteCloser
	nextID  int
	encoder *json.Encoder

	mu      sync.Mutex // guards below
	lines   []Line
	changed chan struct{} // closed and replaced with every new line
	over    bool          // no line will come any more
}

// StartJS starts the dashboard: socket.io-client for JavaScript under Node. It
// returns at once; the client connects, joins its venue and reconnects by
// itself. Without Node the test is skipped, or fails where CI is set.
func StartJS(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	node := needs.Program(t, "node")
	dir := clientDir("js")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io-client")); err != nil {
		needs.Missing(t, "the JavaScript client is not installed: run scripts/setup")
	}
	options, err := json.Marshal(cfg.Options)
	if err != nil {
		t.Fatalf("options of the JavaScript client: %v", err)
	}
	return startClient(t, "js", exec.Command(node, filepath.Join(dir, "dashboard.mjs"),
		cfg.URL, cfg.Token, cfg.Venue, string(options)))
}

// StartJava starts a terminal: socket.io-client for Java with the terminal's
// settings. It returns at once; the client connects, joins its rooms and
// reconnects by itself. Without Java the test is skipped, or fails where CI is
// set.
func StartJava(t testing.TB, cfg ClientConfig) *Client {
	t.Helper()
	java := needs.Program(t, "java")
	jar := filepath.Join(clientDir("java"), "target", "terminal.jar")
	if _, err := os.Stat(jar); err != nil {
		needs.Missing(t, "the Java client is not built: run scripts/setup")
	}
	args := []string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"}
	if cfg.TrustStore != "" {
		args = append(args, "-Djavax.net.ssl.trustStore="+cfg.TrustStore, "-Djavax.net.ssl.trustStorePassword="+cfg.TrustStorePassword)
	}
	args = append(args, "-jar", jar, cfg.URL, cfg.Token, cfg.Venue, cfg.Terminal, cfg.Table)
	return startClient(t, "java", exec.Command(java, args...))
}

func startClient(t testing.TB, name string, cmd *exec.Cmd) *Client {
	t.Helper()
	c := &Client{t: t, name: name, stderr: &output{}, changed: make(chan struct{})}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("%s client: %v", name, err)
	}
	// A pipe of our own: that of exec is closed before all has been read.
	stdout, w, err := os.Pipe()
	if err != nil {
		t.Fatalf("%s client: %v", name, err)
	}
	cmd.Stdout, cmd.Stderr = w, c.stderr
	c.stdin, c.encoder = stdin, json.NewEncoder(stdin)
	c.process = start(t, cmd)
	_ = w.Close() // the child has its own

	var wg sync.WaitGroup
	wg.Go(func() { c.read(stdout) })
	t.Cleanup(func() {
		_ = stdin.Close() // which is how the child is told to go
		if !c.process.ended(5 * time.Second) {
			t.Errorf("%s client did not end by itself", name)
			c.process.signal(syscall.SIGKILL)
		}
		wg.Wait()
		if t.Failed() {
			t.Logf("%s client:%s", name, c.story())
		}
	})
	return c
}

// read takes in the client's lines until it ends.
func (c *Client) read(stdout io.ReadCloser) {
	defer stdout.Close()
	scanner := bufio.NewScanner(stdout)
	scanner.Buffer(nil, 4<<20)
	for scanner.Scan() {
		var line Line
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			line = Line{Kind: "unreadable", Message: scanner.Text()}
		}
		c.add(line, false)
	}
	c.add(Line{Kind: "end"}, true)
}

func (c *Client) add(line Line, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line.At = time.Now()
	c.lines = append(c.lines, line)
	c.over = last
	close(c.changed)
	c.changed = make(chan struct{})
}

// Lines returns all that has happened so far, oldest first.
func (c *Client) Lines() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// Events returns the events of one name so far, oldest first, whether expected
// or not.
func (c *Client) Events(name string) []Line {
	return slices.DeleteFunc(c.Lines(), func(l Line) bool { return l.Kind != "event" || l.Name != name })
}

// Expect returns the oldest line of this kind that no Expect has returned yet,
// waiting for it if need be. The test ends if it does not come.
func (c *Client) Expect(kind string, within time.Duration) Line {
	c.t.Helper()
	return c.expect(kind, within, func(l Line) bool { return l.Kind == kind })
}

// ExpectEvent is Expect for the event of one name.
func (c *Client) ExpectEvent(name string, within time.Duration) Line {
	c.t.Helper()
	return c.expect("event "+name, within, func(l Line) bool { return l.Kind == "event" && l.Name == name })
}

// ExpectAck is Expect for the ack, or its absence, of what was sent with the id.
func (c *Client) ExpectAck(id int, within time.Duration) Line {
	c.t.Helper()
	return c.expect(fmt.Sprintf("ack %d", id), within, func(l Line) bool { return l.Kind == "ack" && l.ID == id })
}

func (c *Client) expect(what string, within time.Duration, match func(Line) bool) Line {
	c.t.Helper()
	line, ok := c.await(within, match)
	if !ok {
		c.t.Fatalf("%s client: no %s within %s", c.name, what, within)
	}
	return line
}

func (c *Client) await(within time.Duration, match func(Line) bool) (Line, bool) {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	from := 0
	for {
		line, changed, ok := c.take(&from, match)
		if ok || changed == nil {
			return line, ok
		}
		select {
		case <-changed:
		case <-deadline.C:
			line, _, ok = c.take(&from, match)
			return line, ok
		}
	}
}

// take marks and returns the first line from the given one on that matches, and
// leaves in from where to go on. The channel is closed when there are more; it
// is nil when there will be none.
func (c *Client) take(from *int, match func(Line) bool) (Line, <-chan struct{}, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ; *from < len(c.lines); *from++ {
		if l := &c.lines[*from]; !l.seen && match(*l) {
			l.seen = true
			return *l, nil, true
		}
	}
	if c.over {
		return Line{}, nil, false
	}
	return Line{}, c.changed, false
}

// Emit sends an event without an ack. Like every Socket.IO client, this one
// keeps what is sent while it is disconnected and sends it on reconnect.
func (c *Client) Emit(event string, payload any) {
	c.t.Helper()
	c.command(map[string]any{"emit": event, "payload": payload})
}

// Post sends an event and returns at once, with the id that its ack will carry.
// The client gives the ack up after the given time.
func (c *Client) Post(event string, payload any, timeout time.Duration) int {
	c.t.Helper()
	c.in.Lock()
	c.nextID++
	id := c.nextID
	c.in.Unlock()
	c.command(map[string]any{
		"emit": event, "payload": payload, "ack": true, "id": id, "timeout": timeout.Milliseconds(),
	})
	return id
}

// EmitAck sends an event and returns the answer, byte for byte. The test ends
// if there is none within the given time.
func (c *Client) EmitAck(event string, payload any, within time.Duration) json.RawMessage {
	c.t.Helper()
	// The client gives up first, so that what it says is the reason.
	line := c.ExpectAck(c.Post(event, payload, within), within+5*time.Second)
	if line.Error != "" {
		c.t.Fatalf("%s client: no ack of %s: %s", c.name, event, line.Error)
	}
	return line.Payload()
}

// Kill ends the client's process at once, as a terminal that loses power.
func (c *Client) Kill() {
	c.process.signal(syscall.SIGKILL)
	<-c.process.done
}

func (c *Client) command(v any) {
	c.t.Helper()
	c.in.Lock()
	defer c.in.Unlock()
	if err := c.encoder.Encode(v); err != nil {
		c.t.Fatalf("%s client: %v", c.name, err)
	}
}

// story returns what a client did last, for the report of a failure.
func (c *Client) story() string {
	const last = 40
	lines := c.Lines()
	var b strings.Builder
	if n := len(lines) - last; n > 0 {
		fmt.Fprintf(&b, "\n  … %d lines …", n)
		lines = lines[n:]
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "\n  %s %s", l.Kind, strings.TrimSpace(strings.Join([]string{
			l.Name, l.Raw, l.Error, l.Reason, l.Message,
		}, " ")))
	}
	if text := c.stderr.String(); text != "" {
		b.WriteString("\n  stderr: " + text)
	}
	return b.String()
}
