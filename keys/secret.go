package keys

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"
)

// A secret is a prefix, 256 random bits in base 62, and the CRC-32 of both in
// base 62:
//
//	sk-nex-<43 characters><6 characters>   an API key, for chat
//	tk-nex-<43 characters><6 characters>   a management token
//
// The checksum keeps typing errors and made-up keys away from the lookup, and
// lets secret scanners tell a real key from noise.
const (
	chatPrefix       = "sk-nex-"
	managementPrefix = "tk-nex-"

	randomBytes   = 32
	randomChars   = 43 // 62^43 > 2^256
	checksumChars = 6  // 62^6 > 2^32
	prefixLen     = len(chatPrefix)
	secretLen     = prefixLen + randomChars + checksumChars

	displayChars = 4 // of the random part, kept in clear as Key.Prefix
	maskChars    = 3 // at either end of a masked secret
)

// mint makes a new secret from the system's random source.
func mint(prefix string) string {
	var b [randomBytes]byte
	rand.Read(b[:]) // never fails: it crashes the program instead
	body := prefix + base62(new(big.Int).SetBytes(b[:]), randomChars)
	return body + checksum(body)
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return base62(new(big.Int).SetUint64(uint64(sum)), checksumChars)
}

// base62 writes n with a fixed width, so that every secret has the same length.
func base62(n *big.Int, width int) string {
	s := n.Text(62)
	return strings.Repeat("0", width-len(s)) + s
}

// checkForm returns ErrMalformedKey unless secret is one that mint could have made.
func checkForm(secret string) error {
	if len(secret) != secretLen || !ours(secret) {
		return ErrMalformedKey
	}
	body := secret[:secretLen-checksumChars]
	if secret[secretLen-checksumChars:] != checksum(body) {
		return ErrMalformedKey
	}
	return nil
}

// ours reports whether s begins with one of our prefixes and goes on in base 62.
func ours(s string) bool {
	if !strings.HasPrefix(s, chatPrefix) && !strings.HasPrefix(s, managementPrefix) {
		return false
	}
	for _, c := range []byte(s[prefixLen:]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// Mask makes a secret safe to show to whoever sent it: sk-nex-abc...xyz. Of text
// that does not look like one of our secrets nothing is shown, since it may be
// somebody's password or another provider's key.
func Mask(secret string) string {
	if len(secret) < secretLen/2 || !ours(secret) {
		return chatPrefix + "xxx...xxx"
	}
	return secret[:prefixLen+maskChars] + "..." + secret[len(secret)-maskChars:]
}

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

func (p Pepper) digest(secret string) (d digest) {
	h := hmac.New(sha256.New, p.Secret)
	h.Write([]byte(secret))
	h.Sum(d[:0])
	return d
}
