package boxtest

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/needs"
	"github.com/avoqado/avoqado-edge/internal/simulate"
)

// TestAnnouncedApart runs the tests named TestApart in a network of their own:
// what they announce is nobody else's business.
func TestAnnouncedApart(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes a while")
	}
	needs.Apart(t, "^TestApart[A-Z]")
}

// ears hear what is multicast by mDNS on the loopback interface.
type ears struct {
	mu    sync.Mutex
	state map[string]string // by instance: what its TXT record says, "gone" after a goodbye
}

func listen(t *testing.T) *ears {
	t.Helper()
	run(t, "ip", "link", "set", "lo", "up")
	// As the kernel makes it, the address is of scope host: where no other
	// interface has one, what is multicast comes from 0.0.0.0, and nobody answers.
	run(t, "ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
	run(t, "ip", "address", "add", "127.0.0.1/8", "dev", "lo", "scope", "global")
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenMulticastUDP("udp4", lo, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	if err != nil {
		t.Fatal(err)
	}
	e := &ears{state: map[string]string{}}
	var all sync.WaitGroup
	all.Go(func() {
		buf := make([]byte, 9000)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			var m dns.Msg
			if m.Unpack(buf[:n]) == nil && m.Response {
				e.note(append(m.Answer, m.Extra...))
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		all.Wait()
	})
	return e
}

func (e *ears) note(records []dns.RR) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, rr := range records {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		instance, _, _ := strings.Cut(txt.Hdr.Name, ".")
		if txt.Hdr.Ttl == 0 {
			e.state[instance] += " gone"
			continue
		}
		for _, s := range txt.Txt {
			if state, ok := strings.CutPrefix(s, "state="); ok {
				e.state[instance] = state
			}
		}
	}
}

func (e *ears) says(instance string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.state[instance]
}

// A box that has no place for another client, and one that leaves, say so to
// all at once, and who looks for a box is led to one with room.
func TestApartStateIsAnnounced(t *testing.T) {
	needs.OnlyApart(t)
	heard := listen(t)
	const places = 3
	config := BoxConfig{Extra: "discovery: {mode: builtin}\nlimits: {max_connections: 3}"}
	box := StartBox(t, config)
	await := func(instance, state string) {
		t.Helper()
		began := time.Now()
		Eventually(t, 20*time.Second, instance+" is "+state, func() bool { return heard.says(instance) == state })
		t.Logf("%s is heard to be %s after %s", instance, state, time.Since(began))
	}
	await("avq-b1", "ok")

	var clients []*simulate.Client
	for range places {
		c, err := simulate.Dial(t.Context(), simulate.ClientConfig{URL: box.URL(), Auth: map[string]any{"token": box.Token(event.Waiter, "w1", "")}})
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	await("avq-b1", "full")
	config.Env = []string{"AVOQADO_EDGE_BOX_ID=b2"}
	second := StartBox(t, config)
	await("avq-b2", "ok")
	found := look(t)
	if len(found) != 2 || found[0].Instance != "avq-b2" || found[0].State != "ok" || found[1].Instance != "avq-b1" || found[1].State != "full" {
		t.Errorf("a terminal is led to %+v", found)
	}
	for _, c := range clients {
		_ = c.Close()
	}
	await("avq-b1", "ok")

	second.Stop()
	await("avq-b2", "leaving gone")
	if found := look(t); len(found) != 1 || found[0].Instance != "avq-b1" {
		t.Errorf("a terminal is led to %+v", found)
	}
}

type foundBox struct{ Instance, State string }

// look is a terminal that looks for a box.
func look(t *testing.T) []foundBox {
	t.Helper()
	cmd := exec.Command(Binary(t), "discover", "--json", "--no-scan", "--venue", Venue)
	cmd.Stderr = os.Stderr
	out, _ := cmd.Output() // 4: something refused
	var r struct{ Found []foundBox }
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r.Found
}
