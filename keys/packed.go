package keys

import (
	"net/netip"
	"time"

	"github.com/google/uuid"
)

// packed is a state as the set keeps it: three cache lines instead of eight.
// Among a million keys each line of a key is a wait for memory, and the waits are
// most of what Verify takes. It is never changed, only replaced.
type packed struct {
	current       digest
	pepperVersion int32
	sandbox       bool
	disabled      bool
	deleted       bool
	expiresAt     time.Time
	rotated       *rotated
	grants        *grants
	id, org, team uuid.UUID
	name, prefix  string
	createdAt     time.Time
	seq           uint64
}

// grants is what few keys have, or all alike.
type grants struct {
	models   []string
	scopes   []Scope
	ips      []netip.Prefix
	rpm, tpm uint64
}

// plain is shared by all keys that chat without limits of their own.
var plain = &grants{scopes: chatOnly}

func (st *state) pack() *packed {
	k := &st.key
	p := &packed{
		current: st.current.digest, pepperVersion: st.current.pepperVersion, seq: st.seq, rotated: st.rotated, grants: plain,
		id: k.ID, org: k.OrgID, team: k.TeamID, name: k.Name, prefix: k.Prefix,
		sandbox: k.Sandbox, disabled: k.Disabled, deleted: k.Deleted, expiresAt: k.ExpiresAt, createdAt: k.CreatedAt,
	}
	onlyChats := len(k.Scopes) == 1 && k.Scopes[0] == ScopeChat
	if !onlyChats || len(k.ModelsAllowed) > 0 || len(k.AllowedIPs) > 0 || k.RPMLimit > 0 || k.TPMLimit > 0 {
		p.grants = &grants{k.ModelsAllowed, k.Scopes, k.AllowedIPs, k.RPMLimit, k.TPMLimit}
	}
	return p
}

func (p *packed) key() Key {
	k := Key{
		ID: p.id, OrgID: p.org, TeamID: p.team, Name: p.name, Prefix: p.prefix,
		ModelsAllowed: p.grants.models, Scopes: p.grants.scopes, AllowedIPs: p.grants.ips, RPMLimit: p.grants.rpm, TPMLimit: p.grants.tpm,
		Sandbox: p.sandbox, Disabled: p.disabled, Deleted: p.deleted, ExpiresAt: p.expiresAt, CreatedAt: p.createdAt,
	}
	if p.rotated != nil {
		k.RotateGraceUntil = p.rotated.graceUntil
	}
	return k
}

func (p *packed) unpack() state {
	return state{key: p.key(), seq: p.seq, current: hashed{p.current, p.pepperVersion}, rotated: p.rotated}
}

// accepts reports whether a digest is one of the key's live secrets: the newest,
// or the one before while its grace lasts. The clock is asked here and not when a
// record is applied, so a grace ends when it should also across restarts.
func (p *packed) accepts(pepperVersion int32, d *digest, now time.Time) bool {
	current := hashed{p.current, p.pepperVersion}
	if current.is(pepperVersion, d) {
		return true
	}
	return p.rotated != nil && p.rotated.previous.is(pepperVersion, d) && now.Before(p.rotated.graceUntil)
}
