package brokers

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/avoqado/avoqado-edge/internal/cloud"

	"github.com/avoqado/avoqado-edge/internal/needs"
	"github.com/avoqado/avoqado-edge/internal/testpart"
)

// The users of the sample files, and one of the tests that may do everything.
// Each one's password is [Password].
const (
	Box      = "box_1" // also its id
	Venue    = "venue_1"
	Backend  = "backend"
	Observer = "observer"
	Password = "of-a-test"
)

// RabbitMQ is a RabbitMQ with its MQTT plugin, in a process of its own, on
// configs/rabbitmq.conf and configs/rabbitmq-definitions.json.
type RabbitMQ struct {
	t          testing.TB
	program    string
	dir        string // of its store
	env        []string
	mqtt, amqp string // host:port
	cert       certificate
	node       *process
}

// StartRabbitMQ starts a node and returns when it accepts connections. It ends
// with the test, which is skipped where RabbitMQ is not installed.
func StartRabbitMQ(t testing.TB) *RabbitMQ {
	t.Helper()
	// The program in the PATH is Debian's: it takes root for the system's node.
	found, err := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if err != nil {
		t.Fatal(err)
	}
	epmd, err := exec.LookPath("epmd")
	if len(found) == 0 || err != nil {
		needs.Missing(t, "rabbitmq-server is not installed")
	}
	slices.Sort(found)

	home := t.TempDir()
	addrs := freeAddrs(t, 4)
	r := &RabbitMQ{
		t: t, program: found[len(found)-1], dir: filepath.Join(home, "store"),
		mqtt: addrs[0], amqp: addrs[1], cert: newCertificate(t),
	}
	distribution, names := port(addrs[2]), port(addrs[3])
	write(t, filepath.Join(home, "rabbitmq.conf"), Sample(t, "rabbitmq.conf",
		"/etc/rabbitmq/rabbitmq-definitions.json", write(t, filepath.Join(home, "definitions.json"), definitions(t)),
		"/etc/rabbitmq/tls/ca.pem", r.cert.cert,
		"/etc/rabbitmq/tls/cert.pem", r.cert.cert,
		"/etc/rabbitmq/tls/key.pem", r.cert.key,
		"0.0.0.0:5671", r.amqp, "0.0.0.0:8883", r.mqtt))
	r.env = append(os.Environ(),
		"HOME="+home, // of the cookie
		"RABBITMQ_NODENAME=edge-"+distribution+"@localhost", "RABBITMQ_DIST_PORT="+distribution,
		"RABBITMQ_MNESIA_BASE="+r.dir, "RABBITMQ_LOG_BASE="+home, "RABBITMQ_LOGS=-",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(home, "rabbitmq"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+write(t, filepath.Join(home, "plugins"), "[rabbitmq_mqtt].\n"),
		"RABBITMQ_CONF_ENV_FILE="+filepath.Join(home, "none"),
		"RABBITMQ_PID_FILE="+filepath.Join(home, "pid"),
		"RUNNING_UNDER_SYSTEMD=true", // no shell between it and us
		"ERL_EPMD_PORT="+names, "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
	)
	// Erlang nodes find each other by a daemon that they start and that stays.
	// One of our own, on a port of its own, ends with the test.
	run(t, exec.Command(epmd, "-port", names, "-address", "127.0.0.1")).listening(addrs[3])
	r.Start()
	return r
}

// definitions returns the sample with passwords, and with the observer.
func definitions(t testing.TB) string {
	t.Helper()
	salt := make([]byte, 4)
	_, _ = rand.Read(salt) // never fails
	sum := sha256.Sum256(append(slices.Clone(salt), Password...))
	hash := base64.StdEncoding.EncodeToString(append(salt, sum[:]...))
	text := Sample(t, "rabbitmq-definitions.json", `"password_hash": ""`, `"password_hash": "`+hash+`"`)
	var all map[string][]map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	vhost := all["vhosts"][0]["name"]
	all["users"] = append(all["users"], map[string]any{
		"name": Observer, "password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "",
	})
	all["permissions"] = append(all["permissions"], map[string]any{
		"user": Observer, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*",
	})
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Start starts a node that was killed, on what its store holds.
func (r *RabbitMQ) Start() {
	r.t.Helper()
	cmd := exec.Command(r.program)
	cmd.Env = r.env
	r.node = run(r.t, cmd)
	r.node.listening(r.mqtt)
	r.node.listening(r.amqp)
	// It names its quorum queues in a file that it writes half a second later. One
	// whose name a power cut took is there and takes nothing, for ever: no
	// publisher is confirmed any more.
	testpart.Until(r.t, "the queue of events has its name on disk", func() bool {
		names, _ := filepath.Glob(filepath.Join(r.dir, "*", "quorum", "*", "names.dets"))
		for _, path := range names {
			raw, err := os.ReadFile(path)
			if err == nil && bytes.Contains(raw, []byte("avoqado_"+EventsQueue)) {
				return true
			}
		}
		return false
	})
}

// Kill ends the node as a power cut does.
func (r *RabbitMQ) Kill() { r.node.kill() }

// Wipe removes the store of a node that was killed.
func (r *RabbitMQ) Wipe() {
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Fatal(err)
	}
}

// URLs returns where boxes reach it.
func (r *RabbitMQ) URLs() []string { return []string{"tls://" + r.mqtt} }

// CAFile returns the certificate that is to be trusted.
func (r *RabbitMQ) CAFile() string { return r.cert.cert }

// Access returns how a user reaches it over MQTT.
func (r *RabbitMQ) Access(user string) cloud.Access {
	return cloud.Access{Broker: r.URLs()[0], Username: user, Password: Password, TLS: r.cert.trust}
}

// AMQP returns how a user reaches it over AMQP.
func (r *RabbitMQ) AMQP(user string) AMQPAccess {
	return AMQPAccess{
		URL: "amqps://" + user + ":" + Password + "@" + r.amqp + "/avoqado", TLS: r.cert.trust,
	}
}
