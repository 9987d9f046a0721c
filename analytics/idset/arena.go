package idset

import "unsafe"

// The arena hands out fixed 512 byte blocks. Pages are lists of blocks, not slices, because all pages of a set grow in
// step: with slices, every size a page has outgrown would stay behind as a hole (or as garbage as large as the set),
// while a block freed by one page fits any other.

const (
	blockWords  = 64
	chunkBlocks = 64 // 32 KiB: small, so that the unused end of the last chunk stays below 2 % of a 1 M set
	noBlock     = ^uint32(0)
)

type block [blockWords]uint64

type chunk [chunkBlocks]block

type arena struct {
	chunks []*chunk // no pointers inside: the garbage collector looks at one word per 32 KiB
	used   uint32   // blocks ever handed out
	free   uint32   // head of the list of freed blocks, linked through their first word
}

func newArena() *arena { return &arena{free: noBlock} }

func (a *arena) block(id uint32) *block { return &a.chunks[id/chunkBlocks][id%chunkBlocks] }

func (a *arena) alloc() uint32 {
	if id := a.free; id != noBlock {
		a.free = uint32(a.block(id)[0])
		return id
	}
	id := a.used
	if int(id/chunkBlocks) == len(a.chunks) {
		a.chunks = append(a.chunks, new(chunk))
	}
	a.used++
	return id
}

func (a *arena) release(id uint32) {
	a.block(id)[0] = uint64(a.free)
	a.free = id
}

func (a *arena) memoryBytes() int {
	return int(unsafe.Sizeof(*a)) + len(a.chunks)*int(unsafe.Sizeof(chunk{})) + cap(a.chunks)*8
}
