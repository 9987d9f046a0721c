package idset

import "slices"

const (
	minRun = 12   // hashes of one page that are worth a merge of their own
	maxRun = 1024 // bounds the scratch space for them

	minBatch = 4096
	maxBatch = 1 << 20
)

// AddAll adds all hashes, in any order and with duplicates among them, and returns how many of them may have been
// there already. It sorts parts of the slice in place: the caller's memory is all the working space it needs. In large
// sets it is several times faster than Add if the slice is long (at best a fiftieth of the set or more), because each
// page is then read and written once for many hashes. The set does not depend on the order within a part.
func (s *Set) AddAll(hashes []uint64) (maybeSeen int) {
	for len(hashes) > 0 {
		// Sorted hashes fill one end of the range first. No batch is larger than an eighth of the set, so that the pages
		// there do not outgrow the others before it is their turn to split.
		n := min(uint64(len(hashes)), max(minBatch, min(maxBatch, s.Len()/8)))
		sortHashes(hashes[:n], 56)
		maybeSeen += s.addSorted(hashes[:n])
		hashes = hashes[n:]
	}
	return maybeSeen
}

func (s *Set) addSorted(hashes []uint64) (maybeSeen int) {
	for len(hashes) > 0 {
		l, most := s.rest, uint64(maxRun)
		if l == nil {
			l, most = s.first, min(maxRun, s.plan.firstIDs-s.first.count)
		}
		p, n := l.locate(hashes[0]).page, 1
		for n < min(len(hashes), int(most)) && l.locate(hashes[n]).page == p {
			n++
		}
		if n < minRun {
			for _, h := range hashes[:n] {
				if s.Add(h) {
					maybeSeen++
				}
			}
		} else {
			maybeSeen += s.addRun(l, hashes[:n])
		}
		hashes = hashes[n:]
	}
	return maybeSeen
}

// addRun adds sorted hashes that belong to one page of l.
func (s *Set) addRun(l *layer, hashes []uint64) (maybeSeen int) {
	values := s.pager.run[:0]
	for _, h := range hashes {
		at := l.locate(h)
		switch {
		case len(values) > 0 && values[len(values)-1] == at.value, s.pager.contains(at), l != s.first && s.pager.contains(s.first.locate(h)):
			maybeSeen++
		default:
			values = append(values, at.value)
		}
	}
	s.pager.run = values
	if len(values) == 0 {
		return maybeSeen
	}
	l.addRun(l.locate(hashes[0]), values)
	if l != s.first {
		s.first.sealNext()
	}
	s.fill()
	return maybeSeen
}

// sortHashes sorts in place by the byte at shift, then each part by the next: hashes are evenly spread, so two or three
// passes leave parts of a few.
func sortHashes(hashes []uint64, shift int) {
	if len(hashes) <= 64 || shift < 0 {
		slices.Sort(hashes)
		return
	}
	var ends, next [256]int
	for _, h := range hashes {
		ends[h>>shift&255]++
	}
	for i, at := 0, 0; i < 256; i++ {
		next[i] = at
		at += ends[i]
		ends[i] = at
	}
	for part := range ends {
		for at := next[part]; at < ends[part]; at = next[part] {
			// Each swap puts one hash where it belongs, until the one that belongs here comes.
			h := hashes[at]
			for to := h >> shift & 255; int(to) != part; to = h >> shift & 255 {
				h, hashes[next[to]] = hashes[next[to]], h
				next[to]++
			}
			hashes[at] = h
			next[part]++
		}
	}
	from := 0
	for _, end := range ends {
		sortHashes(hashes[from:end], shift-8)
		from = end
	}
}
