package recovery

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// Offset names a place in the journal for a client: the last argument of each
// stored event it is sent, and what it presents when it comes back. Clients
// take it as it is; only this package reads it. Its epoch is shortened, since
// every copy of every event carries it.
func Offset(epoch event.Epoch, seq event.Seq) string {
	return tag(epoch) + "." + strconv.FormatUint(uint64(seq), 10)
}

// ParseOffset returns the place an offset names. ok is false for one that is
// not of this epoch, or not an offset.
func ParseOffset(text string, epoch event.Epoch) (seq event.Seq, ok bool) {
	of, digits, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(digits, 10, 64)
	return event.Seq(n), err == nil && of == tag(epoch)
}

func tag(epoch event.Epoch) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(epoch)) // never fails
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, h.Sum64()))
}
