package analytics

import "math"

// Latencies are kept in log-scaled classes, as counts: sums of counts are exact
// and do not depend on the order in which parts merge, so a rebuild gives the
// same percentiles to the last digit (sketches do not). Class c holds
// [ceil(e^(c/16)) - 1, ceil(e^((c+1)/16)) - 1): a class is 6.4 % wide, so a
// percentile is off by at most 3.2 %, and 255 classes reach 2.3 hours.
const classesPerE = 16

// classBounds[c] is the smallest latency of class c, in milliseconds. Several
// low classes are empty: they would be narrower than a millisecond.
var classBounds = func() (bounds [256]uint32) {
	for c := range bounds {
		bounds[c] = uint32(math.Ceil(math.Exp(float64(c)/classesPerE))) - 1
	}
	return bounds
}()

// latencyClass is the class of a latency in milliseconds.
func latencyClass(ms uint32) uint8 {
	c := int(math.Log(float64(ms)+1) * classesPerE)
	c = min(max(c, 0), 255)
	for c < 255 && classBounds[c+1] <= ms {
		c++
	}
	for c > 0 && classBounds[c] > ms {
		c--
	}
	return uint8(c)
}

// classMS is the latency that stands for a class: its geometric middle, which is
// as far from one end as from the other in proportion.
func classMS(c uint8) uint32 {
	if c == 255 {
		return classBounds[255]
	}
	return uint32(math.Sqrt(float64(classBounds[c]+1)*float64(classBounds[c+1]+1))) - 1
}

// histogram counts latencies by class.
type histogram [256]uint64

func (h *histogram) count() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// quantileMS is the latency that permille of the counted ones do not exceed
// (nearest rank); 0 when nothing was counted.
func (h *histogram) quantileMS(permille uint64) uint32 {
	total := h.count()
	if total == 0 {
		return 0
	}
	rank := (total*permille + 999) / 1000
	var seen uint64
	for c, n := range h {
		seen += n
		if n > 0 && seen >= rank {
			return classMS(uint8(c))
		}
	}
	return classMS(255)
}
