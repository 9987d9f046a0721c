package embedded

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
)

const aloneEnv = "AIONE_TEST_ALONE"

// Alone runs the calling test once more, in a process of its own, unless this is
// that process. Only there it returns true, and the test goes on; elsewhere it
// returns false when the other process has passed.
//
// Tests of NATS in virtual time need it: the NATS client keeps used timers for all
// connections of the process, and one from inside a bubble ends a process that
// meets it outside.
func Alone(t interface {
	TB
	Name() string
}) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return true
	}
	var pattern []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	args := []string{"-test.run=" + strings.Join(pattern, "/"), "-test.timeout=5m"}
	for _, arg := range os.Args[1:] {
		// What the caller wants of all tests, but for where they write profiles.
		if name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); name == "test.short" || !strings.HasPrefix(name, "test.") {
			args = append(args, arg)
		}
	}
	alone := exec.Command(os.Args[0], args...)
	alone.Env = append(os.Environ(), aloneEnv+"="+t.Name())
	out, err := alone.CombinedOutput()
	if err != nil {
		t.Fatalf("in a process of its own: %v\n%s", err, out)
	}
	t.Logf("in a process of its own:\n%s", out)
	return false
}
