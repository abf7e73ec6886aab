package uplink

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A visit walks the whole way, tells where it ends, and leaves the running box
// and what the broker keeps for it alone.
func TestVisitToBrokers(t *testing.T) {
	broker := startBroker(t, "127.0.0.1:0")
	ca := newAuthority(t)
	from, to := soon()
	good := front(t, "127.0.0.9:0", broker.URL(), ca.server("broker.test", from, to), false)
	web := front(t, "127.0.0.9:0", broker.URL(), ca.server("broker.test", from, to), true)
	other := front(t, "127.0.0.8:0", broker.URL(), ca.server("broker.test", from, to), false)
	mute := serveConns(t, "127.0.0.1:0", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	refusing := newWire(t, broker.URL())
	alter := func(p []byte) bool {
		if p[0]>>4 == 9 {
			p[len(p)-1] = 0x80
		}
		return true
	}
	refusing.alter.Store(&alter)
	locked := newWire(t, broker.URL())
	deny := func(p []byte) bool {
		if p[0]>>4 == 2 {
			p[3] = 5
		}
		return true
	}
	locked.alter.Store(&deny)

	u := newUplink(t, newMemory(), broker.URL(), nil)
	running(t, "uplink", u.Run)
	online(t, u)
	want := []struct {
		broker string
		failed Step
		name   string
	}{
		{"tls://" + good.Addr().String(), "", ""},
		{"wss://" + web.Addr().String() + "/mqtt", "", ""},
		{"wss://" + web.Addr().String() + "/", StepWeb, Protocol},
		{"tls://" + other.Addr().String(), StepTLS, TLS},
		{"tcp://" + mute.Addr().String(), StepLogin, NoAnswer},
		{locked.url(), StepLogin, Credentials},
		{refusing.url(), StepTopics, Subscription},
		{"tcp://127.0.0.1:1", StepReach, BrokerDown},
	}
	cfg := Config{Venue: "v1", Box: "b1", CAFile: ca.file}
	for _, w := range want {
		cfg.Brokers = append(cfg.Brokers, w.broker)
	}
	began := time.Now()
	report, err := CheckCloud(t.Context(), cfg, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("it took %s", time.Since(began))
	for i, w := range want {
		got := report.Brokers[i]
		name := ""
		if got.Failure != nil {
			name = got.Failure.Name
		}
		if got.Failed != w.failed || name != w.name {
			t.Errorf("%s: failed at %q: %+v", w.broker, got.Failed, got.Failure)
		}
		if strings.HasPrefix(w.broker, "tls") && w.name == "" && got.Expires.Unix() != to.Unix() {
			t.Errorf("%s: certificate until %s", w.broker, got.Expires)
		}
	}
	if report.Facts == nil || report.Facts.Reached != Yes {
		t.Errorf("facts %+v", report.Facts)
	}
	if s := u.Status(); s.Connects != 1 || s.State != Online {
		t.Errorf("the box was disturbed: %+v", s)
	}
	if _, err := CheckCloud(t.Context(), Config{Venue: "v1", Box: "b1"}, time.Now); err == nil {
		t.Error("no broker, and no error")
	}
}
