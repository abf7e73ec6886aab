package boxtest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

const venueTopics = "avoqado/v1/venues/" + Venue

// answersTo subscribes to the results topic and returns what came there so far.
func answersTo(t *testing.T, m *Mosquitto) func() []string {
	t.Helper()
	return heardOn(t, m, venueTopics+"/boxes/b1/commands/results")
}

// heardOn subscribes to a topic and returns what came there so far.
func heardOn(t *testing.T, m *Mosquitto, topic string) func() []string {
	t.Helper()
	host, port, _ := strings.Cut(m.Addr(), ":")
	path := filepath.Join(t.TempDir(), "results")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(needs.Program(t, "stdbuf"), "-oL", needs.Program(t, "mosquitto_sub"), "-h", host, "-p", port, "-q", "1", "-i", "results", "-c",
		"-t", topic)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	return func() []string {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(raw), "\n")
		return lines[:len(lines)-1] // the last is not complete
	}
}

// TestTheCloudCommands sends commands to a real box that is killed in between.
func TestTheCloudCommands(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	online := func() {
		t.Helper()
		Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	}
	online()
	answers := answersTo(t, broker)
	type answer struct {
		ID, Status, Error string
		Result            json.RawMessage
	}
	n, probe := 0, 0
	Eventually(t, 10*time.Second, "results are heard", func() bool {
		broker.Publish(venueTopics+"/boxes/b1/commands", fmt.Sprintf(`{"id":"probe-%d","type":"status.report"}`, probe))
		probe++
		n = len(answers())
		return n > 0
	})
	ask := func(id, body string) answer {
		t.Helper()
		broker.Publish(venueTopics+"/boxes/b1/commands", `{"id":"`+id+`",`+body+`}`)
		var a answer
		Eventually(t, 20*time.Second, "the answer to "+id, func() bool {
			all := answers()
			for ; n < len(all); n++ {
				if json.Unmarshal([]byte(all[n]), &a) == nil && a.ID == id {
					n++
					return true
				}
			}
			return false
		})
		return a
	}

	if a := ask("report", `"type":"status.report"`); a.Status != "done" || !strings.Contains(string(a.Result), `"journal":{"epoch":`) {
		t.Errorf("%+v", a)
	}
	if a := ask("pause", `"type":"drain.pause"`); a.Status != "done" {
		t.Errorf("%+v", a)
	}
	if a := ask("debug", `"type":"log.level","params":{"level":"error"}`); a.Status != "done" {
		t.Errorf("%+v", a)
	}

	at := []string{"--broker", broker.URL(), "--venue", Venue, "--box", "b1"}
	if out, stderr, code := box.Command(append([]string{"cloud", "command", "log.level", "--params", `{"level":"warn"}`}, at...)...); code != 0 ||
		!strings.Contains(out, `"status": "done"`) || !strings.Contains(out, `"level": "warn"`) {
		t.Errorf("cloud command ends with %d\n%s%s", code, out, stderr)
	}
	if out, stderr, code := box.Command(append([]string{"cloud", "command", "box.explode"}, at...)...); code != 1 ||
		!strings.Contains(out, `"status": "rejected"`) || !strings.Contains(stderr, "the command is rejected") {
		t.Errorf("cloud command ends with %d\n%s%s", code, out, stderr)
	}

	box.Kill()
	box.Start()
	online()
	st := box.Status()
	if st.Uplink.Paused == nil || st.Uplink.Paused.Command != "pause" || len(st.Problems) == 0 {
		t.Errorf("after kill -9: %+v, problems %q", st.Uplink, st.Problems)
	}
	if out, _, code := box.Command("status", "--socket", box.Socket()); code != 4 || !strings.Contains(out, "PAUSED by command pause") {
		t.Errorf("status ends with %d and says\n%s", code, out)
	}
	first := ask("resume", `"type":"drain.resume"`)
	again := ask("resume", `"type":"drain.resume"`)
	if first.Status != "done" || string(first.Result) != string(again.Result) || box.Status().Uplink.Paused != nil {
		t.Errorf("%+v\n%+v", first, again)
	}
}

// TestTheCloudSuspendsAVenue closes and opens the venue's door from afar.
func TestTheCloudSuspendsAVenue(t *testing.T) {
	t.Parallel()
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	online := func() {
		t.Helper()
		Eventually(t, 20*time.Second, "uplink online", func() bool { return box.Status().Uplink.State == "online" })
	}
	online()
	enter := func(role event.Role, id string) *Client {
		t.Helper()
		return StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(role, id, ""), Venue: Venue})
	}
	waiter, boss := enter(event.Waiter, "w1"), enter(event.SuperAdmin, "boss")
	waiter.Expect("connect", 10*time.Second)
	boss.Expect("connect", 10*time.Second)

	// A key that cannot be used does not hold it up.
	broker.Publish(venueTopics+"/config", `{"version":1,"venueStatus":"SUSPENDED","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"d1","x":"AQAB"}]}}`)
	if line := waiter.Expect("disconnect", 10*time.Second); !strings.HasPrefix(line.Reason, "transport") {
		t.Errorf("disconnected by %s", line.Reason)
	}
	if line := waiter.Expect("connect_error", 20*time.Second); !strings.Contains(line.Message, "Venue is not operational. Contact support for assistance.") {
		t.Errorf("refused with %s", line.Message)
	}

	// On disk, and in force before there is a link again.
	broker.Stop()
	box.Kill()
	box.Start()
	late := enter(event.Manager, "m1")
	if line := late.Expect("connect_error", 20*time.Second); !strings.Contains(line.Message, "Venue is not operational") {
		t.Errorf("refused with %s", line.Message)
	}
	if st := box.Status().Uplink; st.ConfigVersion != 1 || st.VenueStatus != "SUSPENDED" {
		t.Errorf("status %+v", st)
	}
	boss.Expect("connect", 20*time.Second) // the one who may go on comes back

	broker.Start()
	online()
	broker.Publish(venueTopics+"/config", `{"version":1,"venueStatus":"ACTIVE"}`) // not newer
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(`{"version":2,"venueStatus":"ACTIVE","revoked":[{"sub":"w2"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, stderr, code := box.Command("cloud", "config", "--broker", broker.URL(), "--venue", Venue, file); code != 0 {
		t.Fatalf("cloud config ends with %d\n%s%s", code, out, stderr)
	}
	Eventually(t, 20*time.Second, "the venue is open", func() bool { return box.Status().Uplink.ConfigVersion == 2 })
	enter(event.Waiter, "w3").Expect("connect", 20*time.Second)
	if line := enter(event.Waiter, "w2").Expect("connect_error", 20*time.Second); !strings.Contains(line.Message, "Sesión cerrada") {
		t.Errorf("refused with %s", line.Message)
	}
}
