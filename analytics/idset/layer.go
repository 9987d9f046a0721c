package idset

import (
	"math/bits"
	"unsafe"
)

const (
	// pageIDs is how many values a page has when the layer begins to split: pages have pageIDs/2 to pageIDs*9/8. Larger
	// pages waste less on headers and tails, and cost more to merge.
	pageIDs = 8192
	// The room a merge leaves for the next tail, at least: tailWords words and 1/tailShare of the code. The rest of the
	// last block comes on top. Less room wastes less and merges more often.
	tailWords = 4
	tailShare = 256

	headerChunk = 16 // pages allocated at once: no reallocation moves headers, no doubling holds them twice
)

// roots is how many pages a layer starts from, times a power of two. It gives a layer three times a power of two
// different values instead of a power of two: the 0.6 bits between are what the budget has left over.
const roots = 3

// A layer is an exact set of hashes cut down to roots<<bits values: h*roots>>(64-bits), without overflow.
//
// It spreads them over pages by linear hashing: the high word of h*roots chooses a root and the first bits of the low
// word a page of it: with level d, d bits, or d+1 for pages that have been split already. Pages split one at a time, in
// a fixed order and at fixed counts, so growth has no moment at which everything moves. Page numbers are made of those
// bits in reverse, so that the halves of a page are itself and one that is appended.
type layer struct {
	pager   *pager
	bits    uint
	pageIDs uint64
	level   uint
	split   uint64 // pages of this level that have been split
	chunks  []*[headerChunk]page
	count   uint64
	splitAt uint64 // count at which the next page splits
	sealed  uint64 // pages merged for good, once the layer takes no more
}

func newLayer(g *pager, bits uint, pageIDs uint64) *layer {
	// Values are what of a hash the page does not imply; they must fit 32 bits.
	l := &layer{pager: g, bits: bits, pageIDs: pageIDs, level: max(bits, 32) - 32}
	for i := range l.unsplit() {
		l.reserve(i)
	}
	l.splitAt = l.pageIDs * l.unsplit()
	return l
}

// unsplit returns how many pages the level started with.
func (l *layer) unsplit() uint64 { return roots << l.level }

// reserve makes page i, the next one, exist.
func (l *layer) reserve(i uint64) {
	if i/headerChunk == uint64(len(l.chunks)) {
		c := new([headerChunk]page)
		for k := range c {
			c[k].spill = noSpill
		}
		l.chunks = append(l.chunks, c)
	}
}

func (l *layer) page(i uint64) *page { return &l.chunks[i/headerChunk][i%headerChunk] }

// locate returns the spot of h. It holds until the next add.
func (l *layer) locate(h uint64) spot {
	root, h := bits.Mul64(h, roots)
	r, depth := bits.Reverse64(h), l.level
	i := r&(1<<depth-1)*roots + root
	if i < l.split {
		i += r >> depth & 1 * l.unsplit()
		depth++
	}
	width := l.bits - depth
	return spot{page: l.page(i), value: uint32(h << depth >> (64 - width)), width: width}
}

// add adds the hash that belongs to s, which the layer must not contain, and says if that took a merge.
func (l *layer) add(s spot) (merged bool) {
	merged = l.pager.add(s)
	l.grow(1)
	return merged
}

// addRun adds sorted values to the page of s, which must not contain any of them.
func (l *layer) addRun(s spot, values []uint32) {
	l.pager.merge(s.page, s.width, values, true)
	l.grow(uint64(len(values)))
}

func (l *layer) grow(n uint64) {
	for l.count += n; l.count >= l.splitAt; {
		l.splitNext()
	}
}

// splitNext splits one page and sets the count for the next. A level is split through while the layer grows by an
// eighth: slow enough that no insert waits for more than one split, and fast enough that pages stay alike in size.
func (l *layer) splitNext() {
	l.splitAt += max(1, l.pageIDs/8)
	width := l.bits - l.level
	if width < 2 {
		return // the pages are full, they hold every value there is
	}
	i := l.split + l.unsplit()
	l.reserve(i)
	l.pager.split(l.page(l.split), l.page(i), width)
	l.split++
	if l.split == l.unsplit() {
		l.level++
		l.split = 0
		l.splitAt = max(l.splitAt, l.pageIDs*l.unsplit())
	}
}

// sealNext merges the tail of one more page for good. For a layer that takes no more: lookups get shorter.
func (l *layer) sealNext() {
	if l.sealed == l.split+l.unsplit() {
		return
	}
	p, width := l.page(l.sealed), l.bits-l.level
	if l.sealed < l.split || l.sealed >= l.unsplit() {
		width--
	}
	l.pager.merge(p, width, nil, false)
	l.sealed++
}

func (l *layer) memoryBytes() int {
	return int(unsafe.Sizeof(*l)) + cap(l.chunks)*8 + len(l.chunks)*int(unsafe.Sizeof([headerChunk]page{}))
}
