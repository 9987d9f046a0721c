package idset

import "github.com/zeebo/xxh3"

// hashSeed is part of the meaning of every hash stored in ClickHouse ("aioneid1" in ASCII). It must never change.
const hashSeed uint64 = 0x61696f6e65696431

// Hash returns the 64-bit hash of an event id within its org: XXH3 with hashSeed over the 16 bytes of org followed by
// the 16 bytes of id. It is persisted in ClickHouse rows, so it is fixed for ever; a test compares it with known values.
//
// NOTE: XXH3 is not keyed. Who may choose ids freely can make two that collide; that costs an exact lookup, never a
// charge, because the set is only the filter before that lookup.
func Hash(org, id [16]byte) uint64 {
	var b [32]byte
	copy(b[:16], org[:])
	copy(b[16:], id[:])
	return xxh3.HashSeed(b[:], hashSeed)
}
