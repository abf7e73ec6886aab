package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

const patience = 60 * time.Second

// serve starts a peer and returns its host and port.
func serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("run does not end")
		}
	})
	return l.Addr().String()
}

func request(t *testing.T, method, url, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// poll opens a polling session and returns its URL.
func poll(t *testing.T, base string) string {
	t.Helper()
	status, open := request(t, http.MethodGet, base+"?EIO=4&transport=polling", "")
	if status != http.StatusOK || !strings.HasPrefix(open, `0{"`) {
		t.Fatalf("handshake was answered with %d %q", status, open)
	}
	for _, want := range []string{`"upgrades":["websocket"]`, `"pingInterval":300`, `"pingTimeout":200`, `"maxPayload":1000000`} {
		if !strings.Contains(open, want) {
			t.Errorf("no %s in %s", want, open)
		}
	}
	_, sid, _ := strings.Cut(open, `"sid":"`)
	sid, _, _ = strings.Cut(sid, `"`)
	return base + "?EIO=4&transport=polling&sid=" + sid
}

func dial(t *testing.T, url string) *websocket.Conn {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	t.Cleanup(func() { _ = ws.Close() })
	_ = ws.SetReadDeadline(time.Now().Add(patience))
	return ws
}

// play sends and expects, one after the other: "> x" sends, "< x" wants a
// message that begins with x, "b> x" and "b< x" do so in binary, "closed" wants
// the end. Pings are answered unless they are what is wanted.
func play(t *testing.T, ws *websocket.Conn, script ...string) {
	t.Helper()
	for _, line := range script {
		verb, text, _ := strings.Cut(line, " ")
		kind := websocket.TextMessage
		if verb[0] == 'b' {
			kind = websocket.BinaryMessage
		}
		switch verb {
		case ">", "b>":
			if err := ws.WriteMessage(kind, []byte(text)); err != nil {
				t.Fatal(err)
			}
		case "<", "b<":
			got, message, err := next(ws, text == "2")
			if err != nil || got != kind || !strings.HasPrefix(message, text) {
				t.Fatalf("got %q, %v; want %q", message, err, line)
			}
		case "closed":
			for {
				_, message, err := ws.ReadMessage()
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("it is not closed")
				}
				if err != nil {
					return
				}
				if string(message) != "2" {
					t.Fatalf("got %q instead of the end", message)
				}
			}
		}
	}
}

func next(ws *websocket.Conn, pings bool) (int, string, error) {
	for {
		kind, message, err := ws.ReadMessage()
		if err != nil || pings || string(message) != "2" {
			return kind, string(message), err
		}
		if err := ws.WriteMessage(websocket.TextMessage, []byte("3")); err != nil {
			return 0, "", err
		}
	}
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	host := serve(t)
	for _, path := range []string{"/engine.io/", "/socket.io/"} {
		base := "http://" + host + path
		poll(t, base)
		for _, c := range []struct{ method, query string }{
			{http.MethodGet, "?transport=polling"},
			{http.MethodGet, "?EIO=abc&transport=polling"},
			{http.MethodGet, "?EIO=4"},
			{http.MethodGet, "?EIO=4&transport=abc"},
			{http.MethodGet, "?EIO=4&transport=websocket"},
			{http.MethodPost, "?EIO=4&transport=polling"},
			{http.MethodPut, "?EIO=4&transport=polling"},
			{http.MethodGet, "?EIO=4&transport=polling&sid=nobody"},
		} {
			if status, _ := request(t, c.method, base+c.query, ""); status != http.StatusBadRequest {
				t.Errorf("%s %s: %d", c.method, path+c.query, status)
			}
		}
	}
}

func TestEngineWebSocket(t *testing.T) {
	t.Parallel()
	host := serve(t)
	for name, script := range map[string][]string{
		"echo":              {`< 0{"`, "> 4hello", "< 4hello"},
		"echo in binary":    {`< 0{"`, "b> \x01\x02\x03", "b< \x01\x02\x03"},
		"pings":             {`< 0{"`, "< 2", "> 3", "< 2", "> 3", "< 2", "> 3", "> 4x", "< 4x"},
		"pong without ping": {`< 0{"`, "> 3", "> 4x", "< 4x"},
		"ping timeout":      {`< 0{"`, "closed"},
		"invalid type":      {`< 0{"`, "> abc", "closed"},
		"ping of a client":  {`< 0{"`, "> 2", "closed"},
		"close packet":      {`< 0{"`, "> 1", "closed"},
		"empty message":     {`< 0{"`, "> ", "closed"},
		"too long":          {`< 0{"`, "> 4" + strings.Repeat("x", maxPayload), "closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, dial(t, "http://"+host+"/engine.io/?EIO=4&transport=websocket"), script...)
		})
	}
}

func TestEnginePolling(t *testing.T) {
	t.Parallel()
	host := serve(t)
	for name, c := range map[string]struct{ post, answer, poll string }{
		"one packet":     {"4hello", "ok", "4hello"},
		"several":        {"4a\x1e4b\x1e4c", "ok", "4a\x1e4b\x1e4c"},
		"text and bytes": {"4hello\x1ebAQIDBA==", "ok", "4hello\x1ebAQIDBA=="},
		"malformed":      {"abc", `{"code":3,"message":"Bad request"}`, `{"code":1,"message":"Session ID unknown"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := poll(t, "http://"+host+"/engine.io/")
			if _, got := request(t, http.MethodPost, url, c.post); got != c.answer {
				t.Errorf("POST was answered with %q", got)
			}
			if _, got := request(t, http.MethodGet, url, ""); got != c.poll {
				t.Errorf("poll was answered with %q, want %q", got, c.poll)
			}
		})
	}
	t.Run("polls at once", func(t *testing.T) {
		t.Parallel()
		url := poll(t, "http://"+host+"/engine.io/")
		answers := make(chan string, 2)
		for range 2 {
			go func() {
				resp, err := http.Get(url)
				if err != nil {
					answers <- err.Error()
					return
				}
				defer func() { _ = resp.Body.Close() }()
				b, _ := io.ReadAll(resp.Body)
				answers <- fmt.Sprint(resp.StatusCode, " ", string(b))
			}()
		}
		both := <-answers + ", " + <-answers
		if !strings.Contains(both, "200 1") || !strings.Contains(both, "400 ") {
			t.Errorf("answered with %s", both)
		}
		if status, _ := request(t, http.MethodGet, url, ""); status != http.StatusBadRequest {
			t.Errorf("the session lives: %d", status)
		}
	})
	t.Run("ping timeout", func(t *testing.T) {
		t.Parallel()
		url := poll(t, "http://"+host+"/engine.io/")
		if _, got := request(t, http.MethodGet, url, ""); got != "2" {
			t.Errorf("poll was answered with %q", got)
		}
		if _, got := request(t, http.MethodGet, url, ""); got != "1" {
			t.Errorf("poll was answered with %q", got)
		}
	})
	t.Run("upgrade", func(t *testing.T) {
		t.Parallel()
		url := poll(t, "http://"+host+"/engine.io/")
		ws := dial(t, strings.Replace(url, "polling", "websocket", 1))
		play(t, ws, "> 2probe", "< 3probe")
		if _, got := request(t, http.MethodGet, url, ""); got != "6" {
			t.Errorf("poll was answered with %q", got)
		}
		play(t, ws, "> 5", "> 4x", "< 4x")
		if status, _ := request(t, http.MethodGet, url, ""); status != http.StatusBadRequest {
			t.Errorf("poll after the upgrade was answered with %d", status)
		}
		play(t, dial(t, strings.Replace(url, "polling", "websocket", 1)), "closed")
		play(t, ws, "> 4y", "< 4y")
	})
}

func TestSocketIO(t *testing.T) {
	t.Parallel()
	host := serve(t)
	in := []string{`< 0{"`, "> 40", `< 40{"sid":"`, `< 42["auth",{}]`}
	for name, script := range map[string][]string{
		"auth":              {`< 0{"`, `> 40{"token":"123"}`, `< 40{"sid":"`, `< 42["auth",{"token":"123"}]`},
		"namespace":         {`< 0{"`, "> 40/custom,", `< 40/custom,{"sid":"`, `< 42/custom,["auth",{}]`},
		"unknown namespace": {`< 0{"`, "> 40/random", `< 44/random,{"message":"Invalid namespace"}`},
		"no handshake":      {`< 0{"`, "closed"},
		"bad handshake":     {`< 0{"`, "> 4abc", "closed"},
		"disconnect":        append(in[:4:4], "> 41", "< 2"),
		"leave one":         append(in[:4:4], "> 40/custom", `< 40/custom,{`, "< 42/custom,", "> 41/custom", `> 42["message","x"]`, `< 42["message-back","x"]`),
		"message":           append(in[:4:4], `> 42["message",1,"2",{"3":[true]}]`, `< 42["message-back",1,"2",{"3":[true]}]`),
		"ack":               append(in[:4:4], `> 42456["message-with-ack",1,"2",{"3":[false]}]`, `< 43456[1,"2",{"3":[false]}]`),
		"bytes kept":        append(in[:4:4], `> 42["message",120.50,9007199254740993,"<&>"]`, `< 42["message-back",120.50,9007199254740993,"<&>"]`),
		"attachments": append(in[:4:4], `> 452-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b> \x01", "b> \x02",
			`< 452-["message-back",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "b< \x01", "b< \x02"),
		"ack with attachments": append(in[:4:4], `> 451-789["message-with-ack",{"_placeholder":true,"num":0}]`, "b> \x01",
			`< 461-789[{"_placeholder":true,"num":0}]`, "b< \x01"),
		"unknown type":        append(in[:4:4], "> 4abc", "closed"),
		"no list":             append(in[:4:4], "> 42{}", "closed"),
		"bad ack id":          append(in[:4:4], `> 42abc["message-with-ack",1]`, "closed"),
		"text for attachment": append(in[:4:4], `> 451-["message",{"_placeholder":true,"num":0}]`, `> 42["message"]`, "closed"),
		"stray attachment":    append(in[:4:4], "b> \x01", "closed"),
		"too many":            append(in[:4:4], `> 4599-["message"]`, "closed"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, dial(t, "http://"+host+"/socket.io/?EIO=4&transport=websocket"), script...)
		})
	}
}
