package configs_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/boxtest"

	"github.com/avoqado/avoqado-edge/internal/needs"
)

const (
	venue = "avoqado/v1/venues/venue_1"
	box   = venue + "/boxes/box_1"
	done  = "test/done" // the last message of a round
)

// fromBox and forBox are the topics of the MQTT contract.
func fromBox() []string {
	return []string{
		box + "/events", box + "/events/gzip", box + "/events/live",
		box + "/status", box + "/telemetry", box + "/commands/results",
	}
}

func forBox() []string {
	return []string{box + "/acks", box + "/commands", venue + "/broadcasts", venue + "/config"}
}

// everywhere returns the topics with those of another box and another venue.
func everywhere(topics []string) []string {
	all := slices.Clone(topics)
	for _, topic := range topics {
		all = append(all,
			strings.Replace(topic, "box_1", "box_2", 1), strings.Replace(topic, "venue_1", "venue_2", 1))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// topics are all those somebody curious would try.
func topics() []string {
	return append(everywhere(append(fromBox(), forBox()...)), box, box+"/other", venue+"/other")
}

// TestMosquittoACL holds the sample file against a real broker: a box may write
// and hear what the contract gives it, and nothing else.
func TestMosquittoACL(t *testing.T) {
	for _, program := range []string{"mosquitto", "mosquitto_pub", "mosquitto_sub", "stdbuf"} {
		needs.Program(t, program)
	}
	sample, err := os.ReadFile("mosquitto.acl")
	if err != nil {
		t.Fatal(err)
	}
	acl := filepath.Join(t.TempDir(), "acl")
	everything := "\nuser observer\ntopic readwrite #\n"
	// Those of the sample may hear the end of the round, too.
	sampled := string(sample)
	for _, user := range []string{"user box_1\n", "user backend\n"} {
		sampled = strings.Replace(sampled, user, user+"topic read "+done+"\n", 1)
	}
	if err := os.WriteFile(acl, []byte(sampled+everything), 0o600); err != nil {
		t.Fatal(err)
	}
	broker := boxtest.StartMosquitto(t, boxtest.MosquittoConfig{Extra: []string{"acl_file " + acl}})

	for name, c := range map[string]struct {
		writer, reader string
		want           []string
	}{
		"what a box may write":          {"box_1", "observer", fromBox()},
		"what a box may hear":           {"observer", "box_1", forBox()},
		"what the back-end may write":   {"backend", "observer", everywhere(forBox())},
		"what the back-end may hear":    {"observer", "backend", everywhere(fromBox())},
		"what nobody's name may write":  {"stranger", "observer", nil},
		"what a box hears of the cloud": {"backend", "box_1", forBox()},
	} {
		t.Run(name, func(t *testing.T) {
			heard := listen(t, broker.URL(), c.reader)
			for _, topic := range topics() {
				publish(t, broker.URL(), c.writer, topic)
			}
			publish(t, broker.URL(), "observer", done)
			got := heard()
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// TestEMQXTopics checks that the sample for EMQX, of which none runs here, names
// what the one for Mosquitto names.
func TestEMQXTopics(t *testing.T) {
	topic := regexp.MustCompile(`avoqado/v1/[A-Za-z0-9_/+-]+`)
	named := map[string][]string{}
	for _, file := range []string{"mosquitto.acl", "emqx-acl.conf"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		named[file] = topic.FindAllString(string(text), -1)
		slices.Sort(named[file])
	}
	if m, e := named["mosquitto.acl"], named["emqx-acl.conf"]; len(m) == 0 || !slices.Equal(m, e) {
		t.Errorf("mosquitto.acl names %q,\nemqx-acl.conf %q", m, e)
	}
}

func publish(t *testing.T, url, user, topic string) {
	t.Helper()
	out, err := exec.Command("mosquitto_pub", "-L", withUser(url, user)+"/"+topic, "-q", "1", "-m", "x").CombinedOutput()
	if err != nil {
		t.Fatalf("publish %s as %s: %v %s", topic, user, err, out)
	}
}

// listen subscribes to every topic and returns what waits for the end of the
// round and says which topics were heard.
func listen(t *testing.T, url, user string) func() []string {
	t.Helper()
	// Into a pipe, the program would keep its lines until there are many.
	args := []string{"-oL", "mosquitto_sub", "-L", withUser(url, user) + "/" + done, "-q", "1", "-F", "%t", "-W", "30", "-d"}
	for _, topic := range topics() {
		args = append(args, "-t", topic)
	}
	cmd := exec.Command("stdbuf", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "Subscribed") {
	}
	return func() []string {
		var heard []string
		for lines.Scan() {
			switch line := lines.Text(); {
			case line == done:
				return heard
			case slices.Contains(topics(), line):
				heard = append(heard, line)
			}
		}
		t.Fatal("the end of the round was not heard")
		return nil
	}
}

func withUser(url, user string) string {
	return strings.Replace(url, "tcp://", "mqtt://"+user+"@", 1)
}
