package boxtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDrillEndsEarly: a practised outage ends by itself when room for events gets
// short, and the box is connected again at once.
func TestDrillEndsEarly(t *testing.T) {
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL(), Confirm: "broker", Extra: "journal: {max_events: 200}"})
	uplink := func(want string) {
		t.Helper()
		Eventually(t, 30*time.Second, "the uplink is "+want, func() bool { return box.Status().Uplink.State == want })
	}
	uplink("online")
	said := &output{}
	cmd := exec.Command(Binary(t), "drill", "--for", "10m", "--quiet")
	cmd.Env = append(os.Environ(), "AVOQADO_EDGE_SOCKET="+box.Socket())
	cmd.Stdout = said
	drill := start(t, cmd)
	uplink("offline")
	orders(t, box, 0, 195)
	if !drill.ended(time.Minute) {
		t.Fatal("it goes on although the journal is nearly full")
	}
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(said.String(), "NOT READY: room for events is short") {
		t.Errorf("it ends with %d: %s", code, said)
	}
	uplink("online")
}
