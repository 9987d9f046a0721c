package keys

import (
	"encoding/binary"
	"testing"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestIndexLikeAMap crowds few shards with digests whose tags collide, wholly or
// at home, and compares with a map.
func TestIndexLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		want := make(map[digest]*state)
		draw := func(t *rapid.T) (h hashed, p *state) {
			h.pepperVersion = 1
			n := rapid.IntRange(0, 60).Draw(t, "key")
			tag := uint64(n%20)<<shardBits | uint64(n%2) | uint64(n%3)<<40
			binary.LittleEndian.PutUint64(h.digest[:], tag)
			h.digest[31] = byte(n)
			return h, newState(Key{ID: uuid.UUID{byte(n), 1}}, h)
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
				p.key.ID = uuid.UUID{9, 9, 9}
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

// TestStateInCacheLines: what a request looks at is together. Where a state begins is
// the allocator's: at a multiple of its size, if that is a power of two.
func TestStateInCacheLines(t *testing.T) {
	const line = 64
	var st state
	if size := unsafe.Sizeof(st); size != 4*line {
		t.Errorf("a state takes %d bytes", size)
	}
	if end := unsafe.Offsetof(st.key) + unsafe.Offsetof(st.key.Memo) + unsafe.Sizeof(st.key.Memo); end > 3*line {
		t.Errorf("what a request looks at ends at %d", end)
	}
}
