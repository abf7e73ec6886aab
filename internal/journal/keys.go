package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"sort"

	bolt "go.etcd.io/bbolt"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// keyIndex says under which seqs the keys with a hash may be found. It holds
// hashes only: whoever finds a seq reads the record to be sure.
type keyIndex map[uint64][]event.Seq

func (k keyIndex) add(hash uint64, seq event.Seq) { k[hash] = append(k[hash], seq) }

// table returns the index as a sealed segment stores it: pairs of hash and
// seq, big-endian, sorted.
func (k keyIndex) table() []byte {
	type pair struct {
		hash uint64
		seq  event.Seq
	}
	pairs := make([]pair, 0, len(k))
	for hash, seqs := range k {
		for _, seq := range seqs {
			pairs = append(pairs, pair{hash, seq})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.seq, b.seq))
	})
	out := make([]byte, 0, len(pairs)*pairSize)
	for _, p := range pairs {
		out = binary.BigEndian.AppendUint64(out, p.hash)
		out = binary.BigEndian.AppendUint64(out, uint64(p.seq))
	}
	return out
}

const pairSize = 16

// searchTable returns the seqs that a sealed segment's table has for a hash.
func searchTable(table []byte, hash uint64) []event.Seq {
	n := len(table) / pairSize
	at := func(i int) uint64 { return binary.BigEndian.Uint64(table[i*pairSize:]) }
	var seqs []event.Seq
	for i := sort.Search(n, func(i int) bool { return at(i) >= hash }); i < n && at(i) == hash; i++ {
		seqs = append(seqs, event.Seq(binary.BigEndian.Uint64(table[i*pairSize+8:])))
	}
	return seqs
}

// filter is a Bloom filter over the hashes of a sealed segment, kept in memory
// so that an event with a new key, which is nearly every event, is known to be
// new without a look at each retained segment. 16 bits a key and 8 probes
// answer wrongly, and cost one needless look, once in 1,700.
type filter []byte

const (
	filterBytesPerKey = 2
	filterProbes      = 8
)

func newFilter(table []byte) filter {
	n := len(table) / pairSize
	f := make(filter, n*filterBytesPerKey)
	for i := range n {
		f.each(binary.BigEndian.Uint64(table[i*pairSize:]), func(at int, bit byte) bool {
			f[at] |= bit
			return true
		})
	}
	return f
}

func (f filter) has(hash uint64) bool {
	found := len(f) > 0
	f.each(hash, func(at int, bit byte) bool {
		found = f[at]&bit != 0
		return found
	})
	return found
}

func (f filter) each(hash uint64, probe func(at int, bit byte) bool) {
	if len(f) == 0 {
		return
	}
	step := bits.RotateLeft64(hash, 32) | 1
	for range filterProbes {
		n, _ := bits.Mul64(hash, uint64(len(f))*8)
		if !probe(int(n/8), 1<<(n%8)) {
			return
		}
		hash += step
	}
}

// hashKey is FNV-1a with a final mix. It is on disk and never changes.
func hashKey[T string | []byte](key T) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// candidates returns the seqs in a segment that is not active whose key may
// have the hash.
func (s *segment) candidates(hash uint64) ([]event.Seq, error) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	if s.filter == nil && s.keys == nil {
		if err := s.loadKeys(); err != nil {
			return nil, err
		}
	}
	if s.keys != nil {
		return s.keys[hash], nil
	}
	if !s.filter.has(hash) {
		return nil, nil
	}
	var seqs []event.Seq
	err := s.view(func(tx *bolt.Tx) error {
		table := tx.Bucket(aboutBucket).Get(keysKey) // summed when the filter was loaded
		seqs = searchTable(table[:max(len(table)-sumSize, 0)], hash)
		return nil
	})
	return seqs, err
}

// loadKeys fetches the filter of a sealed segment. One that never was sealed,
// because its disk failed, or whose seal is damaged, is read through once instead.
func (s *segment) loadKeys() error {
	a, err := s.info()
	if err != nil {
		return err
	}
	if a.sealed {
		err = s.view(func(tx *bolt.Tx) error {
			b := tx.Bucket(aboutBucket)
			bloom, err1 := getSum(b, filterKey)
			_, err2 := getSum(b, keysKey)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			s.filter = append(filter{}, bloom...)
			return nil
		})
		if !errors.Is(err, ErrDamaged) {
			return err
		}
	}
	r, err := s.scan()
	s.keys = r.keys
	return err
}
