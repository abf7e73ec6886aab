package journal

import (
	"testing"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// TestIDComesBack stores IDs in every form: what was sent is what is read.
func TestIDComesBack(t *testing.T) {
	for _, id := range []event.ID{
		event.NewID(), "", "id-1",
		"0190A5B0-1C2D-7E3F-8A4B-5C6D7E8F9A0B",
		"0190a5b01c2d7e3f8a4b5c6d7e8f9a0b",
		"{0190a5b0-1c2d-7e3f-8a4b-5c6d7e8f9a0b}",
	} {
		e := sample(1)
		e.ID = id
		record, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		stamp(record, 1)
		got, err := decode(record, 1, "")
		if err != nil || got.ID != id || recordID(record) != id {
			t.Errorf("%q came back as %q and %q, %v", id, got.ID, recordID(record), err)
		}
	}
}
