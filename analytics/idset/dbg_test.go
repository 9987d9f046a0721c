package idset

import "testing"
import "fmt"
import "time"

func TestDbg(t *testing.T) {
	for _, n := range []uint64{20000, 1000000, 4000000, 20000000} {
		s := New(Options{})
		buf := make([]uint64, 1000000)
		st := time.Now()
		for i := uint64(0); i < n; i += 10000 {
			for k := range buf {
				buf[k] = hashAt(i + uint64(k))
			}
			s.AddAll(buf)
		}
		d0 := time.Since(st)
		const N = 3000000
		x := 0
		st = time.Now()
		for i := range uint64(N) {
			if s.Contains(hashAt(n + i)) {
				x++
			}
		}
		d1 := time.Since(st)
		for i := range uint64(N) {
			if s.Contains(hashAt(i * 7919 % n)) {
				x++
			}
		}
		d2 := time.Since(st) - d1
		st = time.Now()
		for i := range uint64(N) {
			if s.Add(hashAt(n + i)) {
				x++
			}
		}
		d3 := time.Since(st)
		fmt.Println(n, "addall", uint64(d0.Nanoseconds())/n, "miss", d1.Nanoseconds()/N, "hit", d2.Nanoseconds()/N, "add", d3.Nanoseconds()/N, float64(s.MemoryBytes())/float64(s.Len()))
	}
}
