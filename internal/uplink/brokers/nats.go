package brokers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"

	"github.com/avoqado/avoqado-edge/internal/needs"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// NATS is a cluster of three servers with JetStream and MQTT, each in a process
// of its own, on configs/nats-server.conf.
type NATS struct {
	t       testing.TB
	program string
	cert    certificate
	nodes   []*natsNode
}

type natsNode struct {
	config, store        string
	mqtt, health, client string // host:port
	process              *process
}

// natsNodes is how many there are.
const natsNodes = 3

// StartNATS starts a cluster and returns when all its nodes are well. It ends
// with the test, which is skipped where the server cannot be built.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	// Go builds it once and keeps it. A module of its own: the server in this
	// process could not be killed, and would bring ten modules into the daemon's.
	find := exec.Command("go", "tool", "-n", "nats-server")
	find.Dir = root("scripts", "nats")
	out, err := find.Output()
	program := strings.TrimSpace(string(out))
	if _, missing := os.Stat(program); err != nil || missing != nil {
		needs.Missing(t, "nats-server is not built")
	}
	n := &NATS{t: t, program: program, cert: newCertificate(t)}
	addrs := freeAddrs(t, 4*natsNodes)
	routes := func(i int) string { return addrs[4*i+3] }
	for i := range natsNodes {
		dir := t.TempDir()
		node := &natsNode{store: filepath.Join(dir, "store"), mqtt: addrs[4*i], health: addrs[4*i+1], client: addrs[4*i+2]}
		node.config = write(t, filepath.Join(dir, "nats-server.conf"), Sample(t, "nats-server.conf",
			"server_name: nats-1", fmt.Sprintf("server_name: nats-%d", i+1),
			"127.0.0.1:8222", node.health, "127.0.0.1:4222", node.client,
			"/var/lib/nats", node.store,
			"0.0.0.0:8883", node.mqtt, "0.0.0.0:6222", routes(i),
			"/etc/nats/tls/cert.pem", n.cert.cert, "/etc/nats/tls/key.pem", n.cert.key,
			"nats-1.example.com:6222", routes(0), "nats-2.example.com:6222", routes(1), "nats-3.example.com:6222", routes(2),
			"users: [", "users: [\n{user: "+Observer+", password: $BACKEND_PASSWORD}"))
		n.nodes = append(n.nodes, node)
	}
	n.StartAll()
	return n
}

// StartAll starts the nodes that were killed, on what their stores hold, and
// returns when all are well.
func (n *NATS) StartAll() {
	n.t.Helper()
	for _, node := range n.nodes {
		if node.process != nil && !node.process.ended() {
			continue
		}
		cmd := exec.Command(n.program, "-c", node.config)
		cmd.Env = append(os.Environ(), `BOX_1_PASSWORD="`+Password+`"`, `BACKEND_PASSWORD="`+Password+`"`)
		node.process = run(n.t, cmd)
	}
	for i, node := range n.nodes {
		node.process.listening(node.mqtt)
		testpart.Until(n.t, "a node is well", func() bool { return answersOK("http://" + node.health + "/healthz") })
		// It says so before it finds the leaders that MQTT needs.
		testpart.Until(n.t, "a node takes messages", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), testpart.Patience)
			defer cancel()
			return cloud.Publish(ctx, n.access(i, Observer), "test/ready", false, []byte("x")) == nil
		})
	}
}

func answersOK(url string) bool {
	status, _ := ask(url)
	return status == http.StatusOK
}

// ask returns what a monitoring port answers; status 0: nothing.
func ask(url string) (status int, body []byte) {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = answer.Body.Close() }() // read to its end or not
	if body, err = io.ReadAll(answer.Body); err != nil {
		return 0, nil
	}
	return answer.StatusCode, body
}

// Leader returns which node leads the stream that holds all QoS 1 messages.
func (n *NATS) Leader() int {
	n.t.Helper()
	leader := 0
	testpart.Until(n.t, "the messages have a leader", func() bool {
		for _, node := range n.nodes {
			_, body := ask("http://" + node.health + "/jsz?acc=AVOQADO&streams=true")
			var found struct {
				Accounts []struct {
					Streams []struct {
						Name    string `json:"name"`
						Cluster struct {
							Leader string `json:"leader"`
						} `json:"cluster"`
					} `json:"stream_detail"`
				} `json:"account_details"`
			}
			if json.Unmarshal(body, &found) != nil {
				continue // it is down
			}
			for _, account := range found.Accounts {
				for _, stream := range account.Streams {
					if name, ok := strings.CutPrefix(stream.Cluster.Leader, "nats-"); ok && stream.Name == "$MQTT_msgs" {
						leader = int(name[0] - '1')
						return true
					}
				}
			}
		}
		return false
	})
	return leader
}

// Kill ends the given nodes at once as a power cut does; without any, all.
func (n *NATS) Kill(which ...int) {
	for _, i := range n.chosen(which) {
		n.nodes[i].process.kill()
	}
}

// Wipe removes the stores of nodes that were killed; without any, all.
func (n *NATS) Wipe(which ...int) {
	for _, i := range n.chosen(which) {
		if err := os.RemoveAll(n.nodes[i].store); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *NATS) chosen(which []int) []int {
	if len(which) > 0 {
		return which
	}
	all := make([]int, len(n.nodes))
	for i := range all {
		all[i] = i
	}
	return all
}

// Node returns which node has this address.
func (n *NATS) Node(addr string) int {
	n.t.Helper()
	for i, node := range n.nodes {
		if node.mqtt == addr {
			return i
		}
	}
	n.t.Fatalf("no node has the address %s", addr)
	return 0
}

// URLs returns where boxes reach the nodes.
func (n *NATS) URLs() []string {
	var urls []string
	for _, node := range n.nodes {
		urls = append(urls, "tls://"+node.mqtt)
	}
	return urls
}

// ClientAddr returns where a node listens for clients that speak NATS.
func (n *NATS) ClientAddr() string { return n.nodes[0].client }

// BackendNode is the node that [NATS.Access] leads to.
const BackendNode = natsNodes - 1

// CAFile returns the certificate that is to be trusted.
func (n *NATS) CAFile() string { return n.cert.cert }

// Access returns how a user reaches the last node.
func (n *NATS) Access(user string) cloud.Access { return n.access(BackendNode, user) }

func (n *NATS) access(node int, user string) cloud.Access {
	return cloud.Access{Broker: n.URLs()[node], Username: user, Password: Password, TLS: n.cert.trust}
}
