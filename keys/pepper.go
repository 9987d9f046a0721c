package keys

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"log/slog"

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

// hasher computes digests under one pepper.
type hasher struct {
	version int32
	pepper  []byte
}

func newHasher(p Pepper) *hasher { return &hasher{version: int32(p.Version), pepper: p.Secret} }

// digest is the HMAC of a secret of the right length.
func (h *hasher) digest(secret string) (d digest) {
	m := hmac.New(sha256.New, h.pepper)
	m.Write([]byte(secret))
	m.Sum(d[:0])
	return d
}

// attempt is what one Verify works with, kept for reuse so that it allocates
// nothing. Its HMACs are reset, not made anew: that skips hashing the pepper
// again, half of the work.
type attempt struct {
	secret [secretLen]byte
	macs   []hash.Hash // one for each hasher
	out    digest
}

func newAttempt(hashers []*hasher) *attempt {
	a := &attempt{macs: make([]hash.Hash, len(hashers))}
	for i, h := range hashers {
		a.macs[i] = hmac.New(sha256.New, h.pepper)
	}
	return a
}

// digest is what the i-th hasher makes of the secret, good until the next call.
func (a *attempt) digest(i int) *digest {
	m := a.macs[i]
	m.Reset()
	m.Write(a.secret[:])
	m.Sum(a.out[:0])
	return &a.out
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
