package keys

import (
	"crypto/rand"
	"hash/crc32"
	"math/big"
	"regexp"
	"strings"
)

// A secret is a prefix, 256 bits in base 62, and the CRC-32 of both in base 62:
//
//	sk-nex-<43 characters><6 characters>   an API key, for chat
//	tk-nex-<43 characters><6 characters>   a management token
//
// The checksum keeps typing errors and made-up keys away from the lookup, and
// lets secret scanners tell a real key from noise.
const (
	chatPrefix       = "sk-nex-"
	managementPrefix = "tk-nex-"

	secretBytes   = 32
	randomChars   = 43 // 62^43 > 2^256
	checksumChars = 6  // 62^6 > 2^32
	prefixLen     = len(chatPrefix)
	secretLen     = prefixLen + randomChars + checksumChars

	displayChars = 4 // of the random part, kept in clear as Key.Prefix
	maskChars    = 3 // at either end of a masked secret
)

// prefixFor is how the secrets of a token with these scopes begin.
func prefixFor(scopes []Scope) string {
	if len(scopes) == 1 && scopes[0] == ScopeChat {
		return chatPrefix
	}
	return managementPrefix
}

// mint makes a new secret from the system's random source.
func mint(prefix string) string {
	var b [secretBytes]byte
	rand.Read(b[:]) // never fails: it crashes the program instead
	return secretOf(prefix, b[:])
}

// secretOf writes 256 bits as a secret.
func secretOf(prefix string, bits []byte) string {
	random := new(big.Int).SetBytes(bits).Text(62)
	body := prefix + strings.Repeat("0", randomChars-len(random)) + random
	sum := checksum([]byte(body))
	return body + string(sum[:])
}

// display is the part of a secret that may be shown to tell keys apart.
func display(secret string) string { return secret[:prefixLen+displayChars] }

const base62 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" // as big.Int.Text

var inBase62 = func() (in [256]bool) {
	for _, c := range []byte(base62) {
		in[c] = true
	}
	return in
}()

// checksum is the CRC-32 of a body in base 62.
func checksum(body []byte) (sum [checksumChars]byte) {
	crc := crc32.ChecksumIEEE(body)
	for i := checksumChars - 1; i >= 0; i-- {
		sum[i] = base62[crc%62]
		crc /= 62
	}
	return sum
}

// checked reports whether a secret has one of our prefixes and its checksum is
// right. Of what nobody minted so much is no accident; see ours for the rest.
func checked(secret *[secretLen]byte) bool {
	const body = secretLen - checksumChars
	return prefixed(secret[:]) && [checksumChars]byte(secret[body:]) == checksum(secret[:body])
}

func prefixed[T string | []byte](s T) bool {
	return len(s) >= prefixLen && (string(s[:prefixLen]) == chatPrefix || string(s[:prefixLen]) == managementPrefix)
}

// ours reports whether s begins with one of our prefixes and goes on in base 62.
func ours[T string | []byte](s T) bool {
	if !prefixed(s) {
		return false
	}
	for i := prefixLen; i < len(s); i++ {
		if !inBase62[s[i]] {
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

var secretInText = regexp.MustCompile(`\b[st]k-nex-[0-9A-Za-z]+`)

// Redact masks every one of our secrets in a text, such as a path or a name that
// somebody put a key into by mistake.
func Redact(text string) string { return secretInText.ReplaceAllStringFunc(text, Mask) }
