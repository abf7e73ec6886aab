package boxtest

import (
	"os/exec"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

func TestPayloadIsWhatCameOverTheWire(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line Line
		want string
	}{
		{Line{Kind: "event", Raw: `["payment_completed",{"amount":1e3, "b":9007199254740993}]`}, `{"amount":1e3, "b":9007199254740993}`},
		{Line{Kind: "ack", Raw: `[{"success":true}]`}, `{"success":true}`},
		{Line{Kind: "event", Raw: `["bare"]`}, ""},
		{Line{Kind: "ack", Raw: `[]`}, ""},
		{Line{Kind: "event"}, ""},
	} {
		if got := string(c.line.Payload()); got != c.want {
			t.Errorf("payload of %s is %s; want %s", c.line.Raw, got, c.want)
		}
	}
}

// TestMosquittoKeepsWhatItShould shows that the broker the outage tests kill and
// wipe loses exactly what they mean it to lose.
func TestMosquittoKeepsWhatItShould(t *testing.T) {
	t.Parallel()
	m := StartMosquitto(t, MosquittoConfig{})
	pub, sub := needs.Program(t, "mosquitto_pub"), needs.Program(t, "mosquitto_sub")
	port := m.Addr()[len("127.0.0.1:"):]
	keep := func() {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), pub, "-h", "127.0.0.1", "-p", port,
			"-t", "word", "-m", "kept", "-r", "-q", "1").CombinedOutput()
		if err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, out)
		}
	}
	kept := func() bool {
		out, _ := exec.CommandContext(t.Context(), sub, "-h", "127.0.0.1", "-p", port,
			"-t", "#", "-C", "1", "-W", "1").Output() // exit code 27: nothing came
		return string(out) == "kept\n"
	}

	keep()
	m.Restart()
	if !kept() {
		t.Error("lost over an orderly restart")
	}
	m.Stop()
	m.WipeStore()
	m.Start()
	if kept() {
		t.Error("kept although the store was wiped")
	}
	keep()
	m.Kill()
	m.Start()
	if kept() {
		t.Error("kept although it was killed before it saved")
	}
}

func TestEventually(t *testing.T) {
	t.Parallel()
	asked := 0
	Eventually(t, time.Minute, "third time", func() bool { asked++; return asked == 3 })
	if poll(20*time.Millisecond, func() bool { return false }) {
		t.Error("a condition that is never true came true")
	}
}
