package span

import (
	"fmt"
	"log/slog"
	"testing"
)

// TestSignOfLifeIsLast has a sign of life come due while more waits than is
// published at once. It says how many messages there were, so whoever heard it
// before the last of them would take the rest for lost.
func TestSignOfLifeIsLast(t *testing.T) {
	s, err := New(Config{URL: "redis://127.0.0.1:1", Venue: "v", Room: func(string) bool { return true }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.status.Joined = true
	for i := range 2*publishStep + 1 {
		s.Publish(Message{Event: "order_created", To: []string{"r"}, Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	var took [][]byte
	for {
		batch, alive := s.take(true)
		took = append(took, batch...)
		if alive {
			break
		}
	}
	for i, b := range took {
		h, _, reason := decode(b, "v", s.cfg.Room)
		if want := min(i+1, 2*publishStep+1); reason != "" || h.N != uint64(want) || (h.Event == "") != (i == 2*publishStep+1) {
			t.Fatalf("message %d of %d: %+v %s", i, len(took), h, reason)
		}
	}
	if len(took) != 2*publishStep+2 {
		t.Errorf("%d messages", len(took))
	}
}
