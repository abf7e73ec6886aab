package journal

import (
	"reflect"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// firstFormat is a backup as the first version made it. Whatever the machine
// and whatever the version, it must be restored to the same events.
const firstFormat = `{"backup":{"format":1,"box":"b1","venue":"v1","version":"1","made":"1970-01-01T00:00:00Z","epoch":"0190a000-0000-7000-8000-000000000001","first":1,"stored":2,"cursors":{"uplink":1},"state":{"lan":[{"key":"YQ==","value":"AP8="}]}},"crc":"66b5f646"}
{"event":{"seq":1,"epoch":"0190a000-0000-7000-8000-000000000001","id":"id-1","event":"payment_completed","class":"money","origin":"terminal","time":"2026-09-21T14:13:20.001Z","subject":"pay_1","dedupKey":"k/1","digest":"9223372036854775809","payload":{"amount":120.50,"x":1e3}},"crc":"226eb511"}
{"event":{"seq":2,"epoch":"0190a000-0000-7000-8000-000000000001","record":"QgAAAH2vD8UCAAAAAAAAAAEBBGlkLTICEXBheW1lbnRfY29tcGxldGVkAwEBBAEFBQgCbFDEoAEAAAYFcGF5XzIWA3sKfQ=="},"crc":"602d0c62"}
{"end":{"events":2,"lostEvents":0,"sha256":"7c6e8f75c0f771c89f38efc8c6789fe8db4e2c04f37ecb461cc03226af6f525d"},"crc":"530eaa68"}
`

func TestFirstFormatIsRestored(t *testing.T) {
	dir, r := restored(t, rezip(firstFormat), small)
	plain, recorded := sample(1), sample(2)
	plain.Digest, plain.DedupKey, plain.Payload = 1<<63+1, "k/1", []byte(`{"amount":120.50,"x":1e3}`)
	recorded.Payload = []byte("{\n}")
	want := []event.Event{*plain, *recorded}
	for i := range want {
		want[i].Seq, want[i].Epoch = event.Seq(i+1), "0190a000-0000-7000-8000-000000000001"
	}
	b := start(t, dir, small)
	if got := b.all(); !reflect.DeepEqual(got, want) {
		t.Errorf("restored\n%+v, want\n%+v", got, want)
	}
	state, err := b.All("lan")
	if err != nil || string(state["a"]) != "\x00\xff" || b.Cursor("uplink") != 1 || r.Box != "b1" || !r.Made.Equal(time.UnixMilli(0)) {
		t.Errorf("state %v, %v, cursor %d, %+v", state, err, b.Cursor("uplink"), r)
	}
}
