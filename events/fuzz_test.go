package events

import (
	"errors"
	"testing"
)

// FuzzEnvelope feeds bytes both as a message of the log and, sealed with a right
// checksum, as an event and an admission: a disk can give the first, only a
// writer the second. Nothing may panic, and what decodes must be valid.
func FuzzEnvelope(f *testing.F) {
	u := goldenUsage()
	a := Admission{ID: u.ID, Estimate: u}
	whole := SealUsage([]Usage{u, u})
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(AppendUsage(nil, &u))
	f.Add(appendAdmission(nil, &a))
	f.Add([]byte{})
	f.Add([]byte{envelopeFormat, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0xf3, 0x01, 0xf4, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		for _, body := range [][]byte{b, envelopeOf(b), envelopeOf(b, AppendUsage(nil, &u))} {
			us, bad, err := d.Envelope(body, nil)
			if err != nil && !errors.Is(err, ErrUndecodable) {
				t.Fatalf("unclassified: %v", err)
			}
			isBad := map[int]bool{}
			for _, e := range bad {
				isBad[e.Idx] = true
				if !errors.Is(e.Err, ErrUndecodable) && !errors.Is(e.Err, ErrNewerEvent) {
					t.Fatalf("unclassified: %v", e.Err)
				}
			}
			for i := range us {
				if isBad[i] {
					continue
				}
				if err := us[i].Validate(); err != nil {
					t.Fatalf("decoded something invalid: %v", err)
				}
				var again Usage
				if err := d.Usage(AppendUsage(nil, &us[i]), &again); err != nil || !sameUsage(again, us[i]) {
					t.Fatalf("does not survive another trip: %v", err)
				}
			}
			as, err := d.Admissions(body)
			if err != nil && !errors.Is(err, ErrUndecodable) && !errors.Is(err, ErrNewerEvent) {
				t.Fatalf("unclassified: %v", err)
			}
			for i := range as {
				if err := as[i].Validate(); err != nil {
					t.Fatalf("decoded an invalid admission: %v", err)
				}
			}
		}
	})
}
