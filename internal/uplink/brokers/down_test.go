package brokers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
	"github.com/avoqado/avoqado-edge/internal/event"
	"github.com/avoqado/avoqado-edge/internal/testpart"
	"github.com/avoqado/avoqado-edge/internal/uplink"
	"github.com/avoqado/avoqado-edge/internal/uplink/brokers"
)

// comesDown holds a broker to the other half of the contract: broadcasts and
// commands, also for a box that is away; the kept status and configuration, and
// the last will.
func comesDown(r *rig) {
	t := r.t
	r.must(cloud.SendConfig(r.context(), r.broker.Access(brokers.Backend), venueTopic,
		json.RawMessage(`{"version":7,"venueStatus":"ACTIVE"}`)))
	stop := r.startBox()
	testpart.Until(t, "the kept configuration is in force", func() bool { return r.box.version() == 7 })
	testpart.Until(t, "the status is kept", func() bool {
		kept := r.retained(boxTopic + "/status")
		return strings.Contains(kept, `"state":"online"`) && strings.Contains(kept, `"config":7`)
	})

	r.broadcast("b-1")
	r.stored("b-1")
	if a := r.ask(cloud.Command{ID: "c-1", Type: "status.report"}); a.Status != "done" || string(a.Result) != `{"report":"well"}` {
		t.Errorf("answer %+v %s", a, a.Result)
	}

	// A bundle is collected beside the line: what comes behind the command is
	// confirmed before it, and only it comes again after a cut.
	release := r.box.hold()
	r.say(boxTopic+"/commands", `{"id":"d-1","type":"diagnostics.collect"}`)
	testpart.Until(t, "a bundle is collected", func() bool { return r.box.collections() == 1 })
	more := []string{"b-1"}
	for i := range 20 { // more than RabbitMQ lets wait for a confirmation
		more = append(more, fmt.Sprintf("d-%02d", i))
		r.broadcast(more[len(more)-1])
	}
	r.stored(more...)
	if a := r.ask(cloud.Command{ID: "c-2", Type: "status.report"}); a.Status != "done" {
		t.Errorf("answer %+v %s", a, a.Result)
	}
	r.uplink.Interrupt(time.Millisecond)
	testpart.Until(t, "the bundle is collected anew", func() bool { return r.box.collections() == 2 })
	release()
	if a := r.ask(cloud.Command{ID: "d-1", Type: "diagnostics.collect"}); a.Status != "done" || string(a.Result) != `{"diagnosis":"well"}` {
		t.Errorf("answer %+v %s", a, a.Result)
	}
	if n := r.box.collections(); n != 2 {
		t.Errorf("%d bundles", n)
	}

	// Without a word, as when the power fails.
	carriedOut := r.uplink.Status().Commands
	r.uplink.Interrupt(time.Hour)
	testpart.Until(t, "the last will is kept", func() bool { return r.retained(boxTopic+"/status") == `{"state":"offline"}` })
	r.broadcast("b-2")
	r.broadcast("b-3")
	r.say(boxTopic+"/commands", `{"id":"c-3","type":"log.level","params":{"level":"debug"}}`)
	r.uplink.Interrupt(0)
	more = append(more, "b-2", "b-3")
	r.stored(more...)
	testpart.Until(t, "the command is carried out", func() bool { return r.uplink.Status().Commands == carriedOut+1 })
	testpart.Until(t, "the status is kept again", func() bool {
		return strings.Contains(r.retained(boxTopic+"/status"), `"state":"online"`)
	})

	// In good order: another process comes back in its place. Meanwhile the broker
	// was killed, which kept what it had confirmed.
	parted := false
	for range 5 { // on a busy machine it may come too late, and the last will be kept instead
		stop()
		kept := ""
		testpart.Until(t, "its end is kept", func() bool {
			kept = r.retained(boxTopic + "/status")
			return strings.Contains(kept, `"state":"offline"`)
		})
		if parted = strings.Contains(kept, `"b-3"`); parted {
			break
		}
		t.Logf("no farewell, but %s", kept)
		stop = r.startBox()
	}
	if !parted {
		t.Error("the farewell is never kept")
	}
	for i := range 20 {
		r.broadcast(fmt.Sprintf("c-%02d", i))
	}
	r.restart()
	if !r.forgets {
		testpart.Until(t, "the configuration is still kept", func() bool {
			return strings.Contains(r.retained(venueTopic+"/config"), `"version":7`)
		})
	}
	stop = r.startBox()
	for i := range 20 {
		more = append(more, fmt.Sprintf("c-%02d", i))
	}
	r.stored(more...)
	if s := r.uplink.Status(); s.State != uplink.Online || s.Rejected > 0 {
		t.Errorf("status %+v", s)
	}
	stop()
}

func (r *rig) broadcast(id string) {
	r.t.Helper()
	r.say(venueTopic+"/broadcasts", `{"id":"`+id+`","event":"menu_updated","payload":{"menu":"m1"}}`)
}

// stored waits until exactly these broadcasts are in the journal, in this order.
func (r *rig) stored(want ...string) {
	r.t.Helper()
	var got []string
	testpart.Until(r.t, "the broadcasts are stored", func() bool {
		got = got[:0]
		for _, e := range r.events(event.Cloud) {
			got = append(got, string(e.ID))
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		r.t.Errorf("broadcasts %q, want %q", got, want)
	}
}
