package keys

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestIndexLikeAMap crowds few shards with digests whose tags collide, wholly or
// at home, and compares with a map.
func TestIndexLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		want := make(map[digest]*packed)
		draw := func(t *rapid.T) (h hashed, p *packed) {
			h.pepperVersion = 1
			n := rapid.IntRange(0, 60).Draw(t, "key")
			tag := uint64(n%20)<<shardBits | uint64(n%2) | uint64(n%3)<<40
			binary.LittleEndian.PutUint64(h.digest[:], tag)
			h.digest[31] = byte(n)
			return h, &packed{current: h.digest, pepperVersion: 1, id: uuid.UUID{byte(n), 1}}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				h, p := draw(t)
				if err := x.put(&h, p); err != nil {
					t.Fatal(err)
				}
				want[h.digest] = p
			},
			"remove": func(t *rapid.T) {
				h, p := draw(t)
				x.remove(&h, p)
				delete(want, h.digest)
			},
			"take another's": func(t *rapid.T) {
				h, p := draw(t)
				p.id = uuid.UUID{9, 9, 9}
				if want[h.digest] != nil && x.put(&h, p) == nil {
					t.Fatal("two keys have one secret")
				}
			},
			"": func(t *rapid.T) {
				used := 0
				for i := range x {
					used += x[i].used
				}
				if used != len(want) {
					t.Fatalf("%d slots are used, want %d", used, len(want))
				}
				for n := range 61 {
					var d digest
					binary.LittleEndian.PutUint64(d[:], uint64(n%20)<<shardBits|uint64(n%2)|uint64(n%3)<<40)
					d[31] = byte(n)
					if got := x.find(1, &d, time.Time{}); got != want[d] {
						t.Fatalf("digest %d: found %t, want %t", n, got != nil, want[d] != nil)
					}
				}
			},
		})
	})
}
