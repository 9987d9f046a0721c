package httpapi

import (
	"net/http"
	"testing"

	"aione/billing"
	"aione/embedded"
	"aione/keys"

	"github.com/google/uuid"
)

// What an operator changes is in the audit trail with the operator's token and reason.
func TestOperatorsSayWhy(t *testing.T) {
	r := newRig(t, &embedded.Engines{NATS: embedded.OpenNATS(t)})
	x := r.tenant("acme", "")
	root := r.token(x, keys.ScopeAdmin)
	const reason = `"reason":"contract 17"`
	var org orgResponse
	r.send("POST", "/admin/v1/orgs", root, `{"name":"new",`+reason+`}`).into(t, &org)
	path := "/admin/v1/orgs/" + org.ID.String()
	for _, c := range []struct{ method, path, body, typ string }{
		{"POST", "", "", "org.created"},
		{"POST", "/teams", `{"name":"research",` + reason + `}`, "team.created"},
		{"PUT", "/budget", `{"budget_limit":"5",` + reason + `}`, "budget.set"},
		{"PUT", "/limits", `{"rpm_limit":5,` + reason + `}`, "limits.set"},
		{"PUT", "/credit-limit", `{"credit_limit":"5",` + reason + `}`, "credit_limit.set"},
	} {
		if c.path != "" {
			if a := r.send(c.method, path+c.path, root, c.body); a.status != http.StatusOK && a.status != http.StatusCreated {
				t.Errorf("%s %s = %d %s", c.method, c.path, a.status, a.body)
			}
		}
		if last := lastChange(t, r, org.ID); last.Type != c.typ || last.Actor == "" || last.Actor != actorOf(must(r.keys.Verify(root, testNow))) || last.Reason != "contract 17" {
			t.Errorf("%s is in the audit trail as %+v", c.typ, last)
		}
	}
}

func lastChange(t *testing.T, r *rig, org uuid.UUID) billing.Change {
	t.Helper()
	if err := r.book.WaitFor(r.ctx, must(r.log.LedgerEnd(r.ctx))); err != nil {
		t.Fatal(err)
	}
	changes, _, err := r.book.Changes(org, 1, 1)
	if err != nil || len(changes) == 0 {
		t.Fatal(changes, err)
	}
	return changes[0]
}
