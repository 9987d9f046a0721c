package idset

import (
	"math/bits"
	"slices"
	"unsafe"
)

const (
	// inlineBlocks are enough for any page that hashing makes, and fill the header to 256 bytes: what a search asks
	// first lies in one cache line.
	inlineBlocks = 50
	noSpill      = -1
)

// A page holds the values of one slice of the hash space: a code, then an unsorted tail of raw values, in that order in
// the words of its blocks. The tail fills whatever the code leaves of the last blocks, so no space is set aside twice.
type page struct {
	coded  uint32 // values in the code
	tail   uint32 // values in the tail
	end    uint32 // words of the code; the tail starts here
	blocks uint32
	spill  int32 // where in pager.spills the blocks past the inline ones are listed, or noSpill
	low    uint8 // low bits of the code
	sample samples
	inline [inlineBlocks]uint32
}

// A spot is where a hash belongs: its page, and the value of width bits that stands for it there.
type spot struct {
	page  *page
	value uint32
	width uint
}

// A pager does what pages need from outside themselves: blocks and scratch space. One serves all pages of a set.
type pager struct {
	arena  *arena
	spills [][]uint32 // block lists of pages larger than hashing makes them; empty unless the hashes are skewed

	// Scratch, one page each, reused: merging allocates nothing.
	old, new []uint64
	fresh    []uint32
	run      []uint32

	warmed uint64 // see warm
}

func (g *pager) blockID(p *page, i uint32) uint32 {
	if i < inlineBlocks {
		return p.inline[i]
	}
	return g.spills[p.spill][i-inlineBlocks]
}

func (g *pager) word(p *page, i uint32) uint64 {
	return g.arena.block(g.blockID(p, i/blockWords))[i%blockWords]
}

// warm reads about where contains will: words of high, of low and of the tail. contains has to wait for one before it
// knows the next; these reads, for this hash and for others, overlap, and memory is what a search in a large set waits
// for. The sum of what they read is kept only so that the compiler keeps the reads.
func (g *pager) warm(s spot) {
	p := s.page
	if p.coded == 0 {
		return
	}
	low := uint(p.low)
	bucket, logBuckets := uint64(s.value)>>low, s.width-low
	before := bucket * uint64(p.coded) >> logBuckets
	lows := (p.coded+1<<logBuckets)/64 + 1
	group := uint32(bucket*sampleCount>>logBuckets) * groupWords(lows)
	x := uint64(p.inline[9] + p.inline[25] + p.inline[41]) // the other cache lines of the header
	x += g.word(p, group)
	x += g.word(p, uint32((bucket+before)/64))
	x += g.word(p, lows+uint32(before*uint64(low)/64))
	x += g.word(p, p.end)
	g.warmed += x
}

func (g *pager) contains(s spot) bool {
	return g.inTail(s.page, s.value) || s.page.coded > 0 && g.inCode(s.page, s.value, s.width)
}

func (g *pager) inTail(p *page, v uint32) bool {
	both := uint64(v)<<32 | uint64(v)
	end := p.end + (p.tail+1)/2
	for i := p.end; i < end; {
		b := g.arena.block(g.blockID(p, i/blockWords))
		from := i % blockWords
		to := min(blockWords, from+end-i)
		for _, w := range b[from:to] {
			w ^= both
			if uint32(w) == 0 || w>>32 == 0 {
				return true
			}
		}
		i += to - from
	}
	return false
}

func (g *pager) inCode(p *page, v uint32, width uint) bool {
	low := uint(p.low)
	bucket, rest := uint32(uint64(v)>>low), v&uint32(1<<low-1)
	lows := (p.coded+1<<(width-low))/64 + 1
	i, high := g.bucketStart(p, bucket, groupWords(lows), width-low)
	lowAt := uint(lows)*64 + uint(i-1-bucket)*low
	// No early end at a larger value: it would make the branch depend on low, which comes late from memory.
	for ; high&1 == 1; lowAt += low {
		k := uint32(lowAt / 64)
		b := g.arena.block(g.blockID(p, k/blockWords))
		x := b[k%blockWords] >> (lowAt % 64)
		if k%blockWords+1 < blockWords {
			x |= b[k%blockWords+1] << (64 - lowAt%64)
		} else {
			x |= g.word(p, k+1) << (64 - lowAt%64)
		}
		if uint32(x)&uint32(1<<low-1) == rest {
			return true
		}
		high >>= 1
		if i++; i%64 == 0 {
			high = g.word(p, i/64)
		}
	}
	return false
}

// bucketStart returns the bit of high after the zero that starts the bucket, and the bits of its word from there on.
// There are 2^logBuckets buckets.
func (g *pager) bucketStart(p *page, bucket, group uint32, logBuckets uint) (at uint32, high uint64) {
	// Values are evenly spread, so the proportional guess is right or next to right.
	s := uint32(uint64(bucket) * sampleCount >> logBuckets)
	for uint32(p.sample[s%sampleCount]) > bucket {
		s--
	}
	for s+1 < sampleCount && uint32(p.sample[(s+1)%sampleCount]) <= bucket {
		s++
	}
	if s > 0 && p.sample[s%sampleCount] == sampleMax {
		s = 0
	}
	want := uint(bucket - uint32(p.sample[s%sampleCount]))
	i := s * group
	b := g.arena.block(g.blockID(p, i/blockWords))
	for {
		w := b[i%blockWords]
		c := uint(bits.OnesCount64(^w))
		if c > want {
			in := uint32(selectBit(^w, want)) + 1
			if in == 64 {
				return i*64 + 64, g.word(p, i+1)
			}
			return i*64 + in, w >> in
		}
		want -= c
		if i++; i%blockWords == 0 {
			b = g.arena.block(g.blockID(p, i/blockWords))
		}
	}
}

// add appends the value, which the page must not contain, and says if the tail was full and has been merged.
func (g *pager) add(s spot) (merged bool) {
	p, v := s.page, s.value
	if p.blocks == 0 {
		g.append(p)
	}
	i := p.end + p.tail/2
	w := &g.arena.block(g.blockID(p, i/blockWords))[i%blockWords]
	if p.tail%2 == 0 {
		*w = uint64(v)<<32 | uint64(v) // both halves, so that a search need not know that one of them is unused
	} else {
		*w = uint64(v)<<32 | *w&(1<<32-1)
	}
	p.tail++
	if p.end+p.tail/2 < p.blocks*blockWords {
		return false
	}
	g.merge(p, s.width, nil, true)
	return true
}

// merge moves the tail and the sorted values of run, none of them in p, into the code and, with room, makes space for
// the next tail.
func (g *pager) merge(p *page, width uint, run []uint32, room bool) {
	g.load(p)
	if len(run) > 0 {
		g.fresh = append(g.fresh, run...)
		slices.Sort(g.fresh)
	}
	from := layoutOf(int(p.coded), width, uint(p.low))
	n := int(p.coded) + len(g.fresh)
	low := lowBits(n, width)
	if p.coded > 0 && low == uint(p.low) {
		g.new = grown(g.new, layoutOf(n, width, low).end)
		g.store(p, n, mergeCode(g.new, g.old, int(p.coded), g.fresh, width, low), room)
		return
	}
	g.write(p, readCode(g.old, int(p.coded), from, g.fresh), n, width, room)
}

// split moves the upper half of p's values, those whose top bit is set, to the empty page q. The bit is implied by the
// page from then on: values get one bit narrower than width.
func (g *pager) split(p, q *page, width uint) {
	g.load(p)
	l := layoutOf(int(p.coded), width, uint(p.low))
	lower := 0
	for r := readCode(g.old, int(p.coded), l, g.fresh); r.len() > 0 && r.read()>>(width-1) == 0; {
		lower++
	}
	r := readCode(g.old, int(p.coded), l, g.fresh)
	upper := r.len() - lower
	g.write(p, r, lower, width-1, true)
	g.write(q, r, upper, width-1, true)
}

// write makes the next n values of r all that p holds.
func (g *pager) write(p *page, r *codeReader, n int, width uint, room bool) {
	g.new = grown(g.new, layoutOf(n, width, lowBits(n, width)).end)
	g.store(p, n, encode(g.new, r, n, width), room)
}

// load copies p's code to g.old and its tail, sorted, to g.fresh.
func (g *pager) load(p *page) {
	g.old = grown(g.old, int(p.end))
	for i := uint32(0); i < p.end; i += blockWords {
		copy(g.old[i:p.end], g.arena.block(g.blockID(p, i/blockWords))[:])
	}
	g.fresh = g.fresh[:0]
	for i := range p.tail {
		g.fresh = append(g.fresh, uint32(g.word(p, p.end+i/2)>>(i%2*32)))
	}
	slices.Sort(g.fresh)
}

// store makes the code of n values in g.new, with layout l, all that p holds. With room, p gets blocks for a next tail
// too: of at least a few values and in proportion to the code, so that merging costs the same per value in pages of any
// size.
func (g *pager) store(p *page, n int, l layout, room bool) {
	p.coded, p.tail, p.end, p.low = uint32(n), 0, uint32(l.end), uint8(l.low)
	p.sample = sample(g.new, l)
	need := p.end + 1 // a search reads one word ahead
	if room {
		need += max(tailWords, p.end/tailShare)
	}
	for p.blocks*blockWords < need {
		g.append(p)
	}
	for (p.blocks-1)*blockWords >= need {
		g.drop(p)
	}
	for i := uint32(0); i < p.end; i += blockWords {
		copy(g.arena.block(g.blockID(p, i/blockWords))[:], g.new[i:p.end])
	}
}

func (g *pager) append(p *page) {
	id := g.arena.alloc()
	if p.blocks < inlineBlocks {
		p.inline[p.blocks] = id
	} else {
		if p.spill == noSpill {
			p.spill = int32(len(g.spills))
			g.spills = append(g.spills, nil)
		}
		g.spills[p.spill] = append(g.spills[p.spill], id)
	}
	p.blocks++
}

func (g *pager) drop(p *page) {
	p.blocks--
	g.arena.release(g.blockID(p, p.blocks))
	if p.blocks >= inlineBlocks {
		g.spills[p.spill] = g.spills[p.spill][:p.blocks-inlineBlocks]
	}
}

// grown returns s with room for n words and the one past them that bit copies read.
func grown(s []uint64, n int) []uint64 {
	if len(s) > n {
		return s
	}
	return make([]uint64, n+n/16+64)
}

func (g *pager) memoryBytes() int {
	n := int(unsafe.Sizeof(*g)) + g.arena.memoryBytes()
	n += (cap(g.old)+cap(g.new))*8 + (cap(g.fresh)+cap(g.run))*4
	n += cap(g.spills) * int(unsafe.Sizeof([]uint32{}))
	for _, s := range g.spills {
		n += cap(s) * 4
	}
	return n
}
