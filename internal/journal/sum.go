package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// bbolt has no checksums of its own on what it stores. Records carry theirs;
// every other value ends with the CRC32C of its key and itself. That holds in
// every format to come, so a damaged format number is not taken for a newer one.
const sumSize = 4

func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// putSum stores a value with its sum.
func putSum(b *bolt.Bucket, key, value []byte) error {
	return b.Put(key, binary.LittleEndian.AppendUint32(slices.Clip(value), sum(key, value)))
}

// getSum returns a value that putSum stored, nil if there is none. It is valid
// inside the transaction only.
func getSum(b *bolt.Bucket, key []byte) ([]byte, error) {
	stored := b.Get(key)
	if stored == nil {
		return nil, nil
	}
	return checkSum(key, stored)
}

func checkSum(key, stored []byte) ([]byte, error) {
	if n := len(stored) - sumSize; n >= 0 {
		if value := stored[:n]; sum(key, value) == binary.LittleEndian.Uint32(stored[n:]) {
			return value, nil
		}
	}
	return nil, fmt.Errorf("%w: value of %q", ErrDamaged, key)
}
