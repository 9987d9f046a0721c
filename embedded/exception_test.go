package embedded

import (
	"net/http"
	"strings"
	"testing"
)

func TestExceptions(t *testing.T) {
	for _, c := range []struct {
		engine string
		code   int
		status int
		says   string
	}{
		{"Code: 60. DB::Exception: Table t does not exist. (UNKNOWN_TABLE)", 60, http.StatusNotFound, "UNKNOWN_TABLE"},
		{"Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", 243, http.StatusInternalServerError, "disk of the ClickHouse data directory is full"},
		{"Code: 75. DB::ErrnoException: Cannot write: errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)", 75, http.StatusInternalServerError, "disk of the ClickHouse data directory is full"},
		{"Another streaming query is active", codeUnknownException, http.StatusInternalServerError, "Code: 1002. DB::Exception: Another"},
		{"Code: 99999999999999999999. x", codeUnknownException, http.StatusInternalServerError, "Code: 99"},
	} {
		got := newException(c.engine)
		if got.code != c.code || got.httpStatus() != c.status || !strings.Contains(got.text, c.says) {
			t.Errorf("%s: %d, status %d, %s", c.engine, got.code, got.httpStatus(), got.text)
		}
	}
}

// A main without RunChildIfAsked would start itself again and again.
func TestForgottenRunChildIfAsked(t *testing.T) {
	t.Setenv(childEnv, "{}")
	_, err := StartClickHouse(t.Context(), ClickHouseOptions{DataDir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "RunChildIfAsked") {
		t.Errorf("got %v", err)
	}
}

func TestSystemProcessesShowsClientIDs(t *testing.T) {
	for sql, changed := range map[string]bool{
		"SELECT 1 FROM system.processes":              true,
		"SELECT 1 FROM System . Processes AS p":       true,
		"SELECT 'system.processes'":                   false,
		"SELECT 'it\\'s system.processes'":            false,
		"SELECT 1 -- system.processes":                false,
		"SELECT 1 /* system.processes */":             false,
		"SELECT `system.processes`":                   false,
		"SELECT 1 FROM mysystem.processes":            false,
		"SELECT 'a', q FROM system.processes WHERE 1": true,
	} {
		if got := withClientIDs(sql); (got != sql) != changed {
			t.Errorf("%s became %s", sql, got)
		}
	}
}
