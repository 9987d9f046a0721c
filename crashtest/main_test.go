package crashtest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

var seedFlag = flag.Uint64("seed", 0, "seed of what is random; 0 takes one from the clock")

// binaries are the commands under test, built once.
var binaries struct{ dir string }

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "aione-crashtest-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if testing.Short() {
		if err := flag.Set("test.parallel", "6"); err != nil { // they wait more than they compute
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	binaries.dir = dir
	build := exec.Command("go", "build", "-o", dir+"/", "aione/cmd/aione", "aione/cmd/api", "aione/cmd/ingest", "aione/cmd/invoicer")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the commands: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// platformTest begins a test that runs processes of its own. In a short run they
// go beside each other, which is quick; in a full one each has the machine to
// itself, so that a failure points at one test.
func platformTest(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Parallel()
	}
}

// random is the test's source of chance; its seed is printed.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("-seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// between is a random duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}
