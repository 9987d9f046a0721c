package admission

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// The table is a map, whatever the ids have in common.
func TestHoldsAreAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table holds
		model := map[uuid.UUID]*hold{}
		ids := rapid.Custom(func(t *rapid.T) uuid.UUID {
			return uuid.UUID{0: rapid.Byte().Draw(t, "first"), 15: rapid.ByteMax(40).Draw(t, "last")}
		})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					if h := (&hold{id: ids.Draw(t, "id")}); model[h.id] == nil {
						table.put(h)
						model[h.id] = h
					}
				}
			},
			"remove": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				table.remove(id)
				delete(model, id)
			},
			"remove one that is there": func(t *rapid.T) {
				for id := range model {
					table.remove(id)
					delete(model, id)
					return
				}
			},
			"get": func(t *rapid.T) {
				id := ids.Draw(t, "id")
				if got := table.get(id); got != model[id] {
					t.Fatalf("%s is %v, want %v", id, got, model[id])
				}
			},
			"": func(t *rapid.T) {
				seen := 0
				for h := range table.all() {
					if seen++; model[h.id] != h {
						t.Fatalf("%s is there and should not be", h.id)
					}
				}
				if seen != len(model) || table.n != seen {
					t.Fatalf("%d are there, %d counted, want %d", seen, table.n, len(model))
				}
			},
		})
	})
}
