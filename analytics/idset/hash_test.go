package idset

import "testing"

// TestHashIsFixed: hashes are stored in ClickHouse. If this fails, the change is wrong, not the test.
func TestHashIsFixed(t *testing.T) {
	var count [16]byte
	for i := range count {
		count[i] = byte(i)
	}
	var ones [16]byte
	for i := range ones {
		ones[i] = 0xff
	}
	for _, tt := range []struct {
		org, id [16]byte
		want    uint64
	}{
		{[16]byte{}, [16]byte{}, 0x9cbecb35ab39fab2},
		{count, ones, 0x2fb577019d370faf},
		{ones, count, 0xe84567beed5ef62e},
		{[16]byte{15: 1}, [16]byte{}, 0xdb936183fa8cd68e},
	} {
		if got := Hash(tt.org, tt.id); got != tt.want {
			t.Errorf("Hash(%x, %x) = %#016x, want %#016x", tt.org, tt.id, got, tt.want)
		}
	}
}
