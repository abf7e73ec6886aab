package brokers_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/boxtest"
	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
	"github.com/avoqado/avoqado-edge/internal/uplink"
	"github.com/avoqado/avoqado-edge/internal/uplink/brokers"
)

// fault is what happens to a broker in the middle of a drain.
type fault struct {
	name    string
	kill    func()
	restart func()
	goesOn  func() bool // what is left of the broker does its work; nil: nothing is left
}

// TestBrokers holds a box against each broker that a back-end may choose: what
// the contract asks of one, and what may happen to one.
func TestBrokers(t *testing.T) {
	t.Parallel() // they wait for processes and elections more than they work
	for name, start := range map[string]func(t *testing.T) (*rig, []fault){
		"mosquitto": startMosquitto,
		"rabbitmq":  startRabbitMQ,
		"nats":      startNATS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			r, faults := start(t)
			r.startBackend()
			t.Logf("started in %s", time.Since(began).Round(100*time.Millisecond))
			t.Run("what comes down", func(t *testing.T) { r.within(t, comesDown) })
			if t.Failed() {
				return
			}
			t.Run("compressed", func(t *testing.T) { r.within(t, compressed) })
			t.Run("drain", func(t *testing.T) { r.within(t, func(r *rig) { drain(r, faults) }) })
		})
	}
}

// within does a part of a test with the rig.
func (r *rig) within(t *testing.T, part func(*rig)) {
	whole := r.t
	defer func() { r.t = whole }()
	r.t = t
	part(r)
}

func startMosquitto(t *testing.T) (*rig, []fault) {
	acl := brokers.Sample(t, "mosquitto.acl") + "\nuser " + brokers.Observer + "\ntopic readwrite #\n"
	m := boxtest.StartMosquitto(t, boxtest.MosquittoConfig{Extra: []string{
		"acl_file " + brokers.Write(t, "acl", acl),
		"max_queued_messages 0", "max_inflight_messages 0", "autosave_interval 1", "autosave_on_changes true",
	}})
	r := newRig(t, mosquitto{m})
	r.restart = m.Restart // in order: it confirms before it writes
	return r, []fault{
		{name: "killed", kill: m.Kill, restart: m.Start},
		{name: "killed, store lost", kill: m.Kill, restart: func() { m.WipeStore(); m.Start() }},
	}
}

func startRabbitMQ(t *testing.T) (*rig, []fault) {
	if testing.Short() {
		t.Skip("a node takes ten seconds to start")
	}
	m := brokers.StartRabbitMQ(t)
	r := newRig(t, m)
	access := m.AMQP(brokers.Backend)
	r.backend = brokers.NewAMQPBackend(access, r.store, testpart.Log(t))
	r.say = func(topic, body string) {
		r.t.Helper()
		r.must(brokers.PublishAMQP(r.context(), access, topic, []byte(body)))
	}
	r.ask = func(c cloud.Command) (answer cloud.Result) {
		r.t.Helper()
		body, err := json.Marshal(c)
		r.must(err)
		r.say(boxTopic+"/commands", string(body))
		r.must(brokers.EachAMQP(r.context(), access, brokers.ResultsQueue, func(_ string, body []byte) bool {
			return json.Unmarshal(body, &answer) != nil || answer.ID != c.ID
		}))
		return answer
	}
	r.restart = func() { m.Kill(); m.Start() }
	// It writes what is retained when nothing was for two seconds, or at its end.
	r.forgets = true
	return r, []fault{
		{name: "killed", kill: m.Kill, restart: m.Start},
		{name: "killed, store lost", kill: m.Kill, restart: func() { m.Wipe(); m.Start() }},
	}
}

func startNATS(t *testing.T) (*rig, []fault) {
	n := brokers.StartNATS(t)
	r := newRig(t, n)
	killed := 0
	kill := func(node int) {
		killed = node
		n.Kill(node)
	}
	nodeOfTheBox := func() int { return n.Node(r.uplink.Status().Broker) }
	// The back-end knows one node, and waits for it.
	goesOn := func() bool { return killed != brokers.BackendNode }
	r.restart = func() { n.Kill(); n.StartAll() }
	faults := []fault{
		{name: "the box's node killed", kill: func() { kill(nodeOfTheBox()) }, goesOn: goesOn, restart: n.StartAll},
		{name: "the leader of the messages killed, its store lost", kill: func() { kill(n.Leader()) }, goesOn: goesOn, restart: func() {
			n.Wipe(killed)
			n.StartAll()
		}},
		{name: "all nodes killed", kill: func() { n.Kill() }, restart: n.StartAll},
		{name: "all nodes killed, stores lost", kill: func() { n.Kill() }, restart: func() { n.Wipe(); n.StartAll() }},
	}
	if testing.Short() {
		faults = faults[:1]
	}
	return r, faults
}

// drain stores events while the link is down, and lets a fault happen while they
// are sent; again and again. Each has effect once, in order.
func drain(r *rig, faults []fault) {
	total := 20_000
	if testing.Short() {
		total = 2_000
	}
	part := total / (2*len(faults) + 1)
	defer r.startBox()()
	before := len(r.events(event.Terminal))
	r.fill(total - 2*part*len(faults))
	for _, f := range faults {
		began := time.Now()
		r.uplink.Interrupt(time.Hour)
		testpart.Until(r.t, "the outage begins", func() bool { return r.uplink.Status().State == uplink.Offline })
		r.fill(part)
		reached := r.gate.close(part / 2)
		r.uplink.Interrupt(0)
		select {
		case <-reached:
		case <-time.After(testpart.Patience):
			r.t.Fatalf("%s: nothing is sent: %+v", f.name, r.uplink.Status())
		}
		f.kill()
		r.gate.open()
		r.fill(part)
		if f.goesOn != nil && f.goesOn() {
			r.drained(f.name + ": all arrives at what is left")
		}
		down := time.Now()
		f.restart()
		up := time.Now()
		r.drained(f.name + ": all arrives")
		r.t.Logf("%s: %s; restarted in %s, all had arrived %s later: %+v, back-end %+v", f.name,
			time.Since(began).Round(time.Millisecond), up.Sub(down).Round(time.Millisecond),
			time.Since(up).Round(time.Millisecond), r.uplink.Status().Counts, r.store.Counts())
	}
	if n := len(r.events(event.Terminal)) - before; n != total {
		r.t.Fatalf("%d events were stored, not %d", n, total)
	}
	r.check()
}

// compressed sends a backlog on one topic and what is new on another. A broker
// may deliver them in any order; they take effect in one.
func compressed(r *rig) {
	n := 4_000
	if testing.Short() {
		n = 1_000
	}
	r.compress = true
	defer func() { r.compress = false }()
	defer r.startBox()()
	for range 3 {
		r.uplink.Interrupt(time.Hour)
		testpart.Until(r.t, "the outage begins", func() bool { return r.uplink.Status().State == uplink.Offline })
		r.fill(n / 2)
		r.uplink.Interrupt(0)
		for range 10 {
			r.fill(n / 20)
		}
		r.drained("all arrives")
	}
	r.t.Logf("%+v, back-end %+v", r.uplink.Status().Counts, r.store.Counts())
	r.check()
}

// drained waits until all that is stored has taken effect, and the box knows.
func (r *rig) drained(what string) {
	r.t.Helper()
	want := len(r.events(event.Terminal))
	testpart.Until(r.t, what, func() bool { return r.count() >= want })
	testpart.Until(r.t, what+", cursor", func() bool { return r.journal.Cursor("uplink") == r.journal.Stored() })
}

// check checks that the back-end has exactly the journal's events, once each, in
// order, byte for byte.
func (r *rig) check() {
	r.t.Helper()
	want, i := r.events(event.Terminal), 0
	r.must(r.store.Each(func(e cloud.Effect) error {
		if i >= len(want) {
			return fmt.Errorf("effect %d: %s is one too many", i, e.ID)
		}
		w := &want[i]
		if e.ID != w.ID || e.Seq != w.Seq || e.Epoch != w.Epoch || string(e.Data) != string(w.Payload) {
			return fmt.Errorf("effect %d is %s seq %d %s, want %s seq %d %s", i, e.ID, e.Seq, e.Data, w.ID, w.Seq, w.Payload)
		}
		i++
		return nil
	}))
	if i != len(want) {
		r.must(errors.New("effects are missing"))
	}
}
