package idset

import "math/bits"

// The coded part of a page is an Elias–Fano code of n distinct sorted values of `width` bits, split into high and low
// halves:
//
//	high  for each of the 2^(width-low) buckets, a 0, then a 1 for each of its values; then at least one 0
//	low   the low `low` bits of each value, packed, in order
//
// It is a pure function of the values and of width: no history shows in it. Its samples lie in the page header, where
// they are in a nearer cache: how many zeros come before each of sampleCount equal groups of words of high.

const sampleCount = 16

type samples [sampleCount]uint16

// A layout says how a code divides its words.
type layout struct {
	low     uint // low bits per value
	buckets int
	lows    int // word at which low starts; high starts at 0
	end     int // words in all
}

func layoutOf(n int, width, low uint) layout {
	l := layout{low: low, buckets: 1 << (width - low)}
	l.lows = (n+l.buckets)/64 + 1
	l.end = l.lows + (n*int(low)+63)/64
	return l
}

// groupWords returns how many words of high go to one sample.
func groupWords(lows uint32) uint32 { return (lows + sampleCount - 1) / sampleCount }

// lowBits picks the number of low bits that makes the code of n values smallest. One more low bit costs n bits and
// halves the buckets, so it pays until half of the buckets are no more than n.
func lowBits(n int, width uint) uint { return width - min(width, uint(bits.Len(uint(n)))) }

// A bitWriter appends bits to dst, lowest first.
type bitWriter struct {
	dst  []uint64
	acc  uint64
	fill uint // bits in acc, < 64
}

// put appends the low n bits of x, n <= 63; the bits above must be zero.
func (w *bitWriter) put(x uint64, n uint) {
	w.acc |= x << w.fill
	if w.fill+n < 64 {
		w.fill += n
		return
	}
	w.dst[0] = w.acc
	w.dst = w.dst[1:]
	w.acc = x >> (64 - w.fill)
	w.fill += n - 64
}

// copy appends n bits of src from bit `from`. src must be readable one word past the last bit.
func (w *bitWriter) copy(src []uint64, from, n int) {
	for ; n >= 64; n, from = n-64, from+64 {
		x := src[from>>6]>>(from&63) | src[from>>6+1]<<(64-from&63)
		w.dst[0] = w.acc | x<<w.fill
		w.dst = w.dst[1:]
		w.acc = x >> (64 - w.fill)
	}
	if n > 0 {
		x := src[from>>6]>>(from&63) | src[from>>6+1]<<(64-from&63)
		w.put(x&(1<<n-1), uint(n))
	}
}

func (w *bitWriter) flush() {
	if w.fill > 0 {
		w.dst[0] = w.acc
	}
}

// readBits reads n <= 32 bits at bit `at`; words must be readable one word further.
func readBits(words []uint64, at int, n uint) uint32 {
	x := words[at>>6]>>(at&63) | words[at>>6+1]<<(64-at&63)
	return uint32(x & (1<<n - 1))
}

// A codeReader reads the values of a code, merged with sorted fresh ones, in order.
type codeReader struct {
	code   []uint64
	layout layout
	n      int // values in the code
	found  int // of them read
	at     int // word of high
	ones   uint64
	next   uint32 // the value of the code to come, if found < n
	fresh  []uint32
}

func readCode(code []uint64, n int, l layout, fresh []uint32) *codeReader {
	r := &codeReader{code: code, layout: l, n: n, fresh: fresh}
	if n > 0 {
		r.ones = code[0]
		r.advance()
	}
	return r
}

// advance sets next to value number found of the code.
func (r *codeReader) advance() {
	for r.ones == 0 {
		r.at++
		r.ones = r.code[r.at]
	}
	bucket := r.at*64 + bits.TrailingZeros64(r.ones) - r.found - 1
	r.ones &= r.ones - 1
	low := r.layout.low
	r.next = uint32(bucket)<<low | readBits(r.code[r.layout.lows:], r.found*int(low), low)
}

// len returns how many values are left to read.
func (r *codeReader) len() int { return r.n - r.found + len(r.fresh) }

// peek returns the value that read returns next. There must be one.
func (r *codeReader) peek() uint32 {
	if r.found < r.n && (len(r.fresh) == 0 || r.next < r.fresh[0]) {
		return r.next
	}
	return r.fresh[0]
}

func (r *codeReader) read() uint32 {
	v := r.peek()
	if len(r.fresh) > 0 && v == r.fresh[0] {
		r.fresh = r.fresh[1:]
		return v
	}
	if r.found++; r.found < r.n {
		r.advance()
	}
	return v
}

// encode writes the code of the next n values of r, with their bits above width cut off, to dst.
func encode(dst []uint64, r *codeReader, n int, width uint) layout {
	l := layoutOf(n, width, lowBits(n, width))
	high, lows := dst[:l.lows], bitWriter{dst: dst[l.lows:]}
	clear(high)
	// The zeros come by themselves: a one at i + bucket + 1 leaves one before each bucket.
	for i := range n {
		v := uint64(r.read()) & (1<<width - 1)
		at := i + int(v>>l.low) + 1
		high[at/64] |= 1 << (at % 64)
		lows.put(v&(1<<l.low-1), l.low)
	}
	lows.flush()
	return l
}

func sample(code []uint64, l layout) (s samples) {
	words, zeros := int(groupWords(uint32(l.lows))), 0
	for g := range s {
		s[g] = uint16(min(zeros, sampleMax))
		for i := g * words; i < min((g+1)*words, l.lows); i++ {
			zeros += bits.OnesCount64(^code[i])
		}
	}
	return s
}

// sampleMax is not exceeded by any page that hashing makes. In larger ones it stands for itself and more: a search then
// starts too early, and is slow.
const sampleMax = 1<<16 - 1

// mergeCode writes to dst the code of src's n values and of the sorted fresh ones, none of them in src. Both codes have
// the same low bits, so all but the fresh values moves as runs of bits, a word at a time: several times faster than
// reading and encoding each value, and small tails can be afforded only because of it.
func mergeCode(dst, src []uint64, n int, fresh []uint32, width, low uint) layout {
	from := layoutOf(n, width, low)
	to := layoutOf(n+len(fresh), width, low)
	high, lows := bitWriter{dst: dst}, bitWriter{dst: dst[to.lows:]}
	srcLow := src[from.lows:]
	word, zeros := 0, 0       // cursor: zeros before word
	doneBits, doneIDs := 0, 0 // what of src has been copied
	for _, v := range fresh {
		bucket, rest := int(uint64(v)>>low), v&uint32(1<<low-1)
		c := bits.OnesCount64(^src[word])
		for zeros+c <= bucket {
			zeros += c
			word++
			c = bits.OnesCount64(^src[word])
		}
		at := word*64 + selectBit(^src[word], uint(bucket-zeros)) + 1 // where in high the ones of the bucket start
		at = max(at, doneBits)
		for src[at/64]>>(at%64)&1 == 1 && readBits(srcLow, (at-1-bucket)*int(low), low) < rest {
			at++
		}
		rank := at - 1 - bucket
		high.copy(src, doneBits, at-doneBits)
		high.put(1, 1)
		lows.copy(srcLow, doneIDs*int(low), (rank-doneIDs)*int(low))
		lows.put(uint64(rest), low)
		doneBits, doneIDs = at, rank
	}
	high.copy(src, doneBits, n+from.buckets-doneBits)
	high.put(0, 1)
	high.flush()
	lows.copy(srcLow, doneIDs*int(low), (n-doneIDs)*int(low))
	lows.flush()
	return to
}

// selectBit returns the position of the k-th (from 0) one of x, which must have more than k ones. It counts ones per
// byte in parallel, finds the byte, and looks up the rest (Vigna, "Broadword implementation of rank/select queries").
func selectBit(x uint64, k uint) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	s := x - x>>1&0x5555555555555555
	s = s&0x3333333333333333 + s>>2&0x3333333333333333
	s = (s + s>>4) & 0x0f0f0f0f0f0f0f0f * ones    // byte i: ones in bytes 0..i
	below := ((uint64(k)*ones | tops) - s) & tops // top bit set where the count is <= k
	place := uint(bits.OnesCount64(below)) * 8
	rest := k - uint(s<<8>>place&0xff)
	return int(place) + int(selectInByte[rest<<8|uint(x>>place&0xff)])
}

// selectInByte[k<<8|b] is the position of the k-th one of b.
var selectInByte = func() (t [8 << 8]uint8) {
	for b := range 256 {
		k := 0
		for i := range 8 {
			if b>>i&1 == 1 {
				t[k<<8|b] = uint8(i)
				k++
			}
		}
	}
	return t
}()
