package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"sync"

	"github.com/google/uuid"
)

// Pepper is a secret of the operator, mixed into every stored hash. Whoever has
// the log but not the pepper can verify nothing. To replace one, put a new one
// with a higher version beside it: new keys use the highest, all listed verify.
type Pepper struct {
	Version int    // 1 or more; stored beside each hash
	Secret  []byte // at least pepperBytesMin
}

const pepperBytesMin = 32

// Format never prints the secret, whatever the verb.
func (p Pepper) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "pepper %d", p.Version) }

// LogValue never logs the secret.
func (p Pepper) LogValue() slog.Value { return slog.IntValue(p.Version) }

// MarshalJSON refuses: a pepper is never written anywhere by us.
func (p Pepper) MarshalJSON() ([]byte, error) {
	return nil, errors.New("a pepper is not for writing down")
}

type digest [sha256.Size]byte

// hasher computes digests under one pepper. HMAC states are kept for reuse: a
// reset one skips hashing the pepper again, half of the work, and nothing is
// allocated.
type hasher struct {
	version int32
	pepper  []byte
	macs    sync.Pool // of *mac
}

type mac struct {
	hash.Hash
	in  [secretLen]byte
	out digest
}

func newHasher(p Pepper) *hasher {
	h := &hasher{version: int32(p.Version), pepper: p.Secret}
	h.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, h.pepper)} }
	return h
}

// digest is the HMAC of a secret of the right length.
func (h *hasher) digest(secret string) digest {
	m := h.macs.Get().(*mac)
	copy(m.in[:], secret)
	m.Reset()
	m.Write(m.in[:])
	m.Sum(m.out[:0])
	d := m.out
	clear(m.in[:]) // no secret stays behind in the pool
	h.macs.Put(m)
	return d
}

// derive makes the secret of a rotation from what only its caller, the pepper
// and the log together know. None of the three alone lets anyone compute it:
// salt is random and in the log, the idempotency key is nowhere but with the
// caller.
func (h *hasher) derive(prefix string, salt []byte, key uuid.UUID, idempotencyKey string) (string, error) {
	bits, err := hkdf.Key(sha256.New, h.pepper, salt, "aione key rotation 1:"+key.String()+":"+idempotencyKey, secretBytes)
	if err != nil {
		return "", fmt.Errorf("derive the secret of key %s: %w", key, err)
	}
	return secretOf(prefix, bits), nil
}
