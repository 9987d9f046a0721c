package embedded

import "testing"

// Whether a write was synced shows only when the power goes. So what is asked is
// the server itself.
func TestNATSSyncsEveryWrite(t *testing.T) {
	n := OpenNATS(t)
	if c := n.server.JetStreamConfig(); !c.SyncAlways {
		t.Errorf("a message is acknowledged before it is on disk: %+v", c)
	}
}
