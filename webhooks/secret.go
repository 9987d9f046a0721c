package webhooks

import (
	"cmp"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"aione/keys"
)

// A secret is "whsec_" and 256 bits in base64, as Standard Webhooks has it.
const (
	secretPrefix   = "whsec_"
	secretBytes    = 32
	pepperBytesMin = 32
)

// errPepperGone is the outcome of an attempt whose secret cannot be derived.
var errPepperGone = errors.New("the pepper of the endpoint's secret is gone: rotate the secret")

// Secrets derives the secrets of endpoints. They are kept nowhere: whoever has the
// log but not the peppers can sign nothing.
type Secrets struct {
	peppers []keys.Pepper // highest version first
}

// NewSecrets needs at least one pepper. The highest version makes new secrets; the
// others are for secrets made with them, until these are rotated.
func NewSecrets(peppers ...keys.Pepper) (*Secrets, error) {
	if len(peppers) == 0 {
		return nil, errors.New("webhooks: a pepper is needed")
	}
	s := &Secrets{peppers: slices.Clone(peppers)}
	slices.SortFunc(s.peppers, func(a, b keys.Pepper) int { return cmp.Compare(b.Version, a.Version) })
	for i, p := range s.peppers {
		if p.Version < 1 || len(p.Secret) < pepperBytesMin || i > 0 && s.peppers[i-1].Version == p.Version {
			return nil, fmt.Errorf("webhooks: %v: want a version from 1 on, only once, and %d bytes or more", p, pepperBytesMin)
		}
	}
	return s, nil
}

// Format never prints a pepper, whatever the verb.
func (s *Secrets) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%d peppers", len(s.peppers)) }

// LogValue never logs a pepper.
func (s *Secrets) LogValue() slog.Value { return slog.IntValue(len(s.peppers)) }

// MarshalJSON refuses: a pepper is never written anywhere by us.
func (s *Secrets) MarshalJSON() ([]byte, error) {
	return nil, errors.New("peppers are not for writing down")
}

// newest is the version of the pepper of new secrets.
func (s *Secrets) newest() int { return s.peppers[0].Version }

// secretVersion names a secret of an endpoint.
type secretVersion struct {
	Version int // 1, 2, 3 …
	Pepper  int // version of the pepper it is derived from
	Until   time.Time
}

// signsAt says whether it signs at an instant; the newest has no end.
func (v secretVersion) signsAt(now time.Time) bool { return v.Until.IsZero() || now.Before(v.Until) }

// derive gives the key of a secret. It returns errPepperGone.
func (s *Secrets) derive(endpoint uuid.UUID, v secretVersion) ([]byte, error) {
	for _, p := range s.peppers {
		if p.Version == v.Pepper {
			return hkdf.Key(sha256.New, p.Secret, nil, "aione webhook secret 1:"+endpoint.String()+":"+strconv.Itoa(v.Version), secretBytes)
		}
	}
	return nil, errPepperGone
}

// show is a secret as its owner is told it.
func (s *Secrets) show(endpoint uuid.UUID, v secretVersion) (string, error) {
	key, err := s.derive(endpoint, v)
	if err != nil {
		return "", err
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(key), nil
}

// sign is the value of the header webhook-signature: one signature for each secret
// that signs now, the newest first. An old secret that cannot be derived any more
// is left out.
func (s *Secrets) sign(endpoint uuid.UUID, versions []secretVersion, id string, now time.Time, body []byte) (string, error) {
	var signatures []string
	for i, v := range versions {
		if !v.signsAt(now) {
			continue
		}
		key, err := s.derive(endpoint, v)
		if err != nil && i == 0 {
			return "", err
		}
		if err == nil {
			h := hmac.New(sha256.New, key)
			fmt.Fprintf(h, "%s.%d.%s", id, now.Unix(), body)
			signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
		}
	}
	return strings.Join(signatures, " "), nil
}
