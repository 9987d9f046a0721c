package keys

// MintForTest mints a secret, and the hash that a record would have.
func MintForTest(p Pepper) (secret string, hash []byte) {
	secret = mint(chatPrefix)
	d := newHasher(p).digest(secret)
	return secret, d[:]
}
