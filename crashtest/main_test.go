package crashtest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"aione/embedded"
)

var seedFlag = flag.Uint64("seed", 0, "seed of what is random; 0 takes one from the clock")

// binaries are the commands under test.
var binaries struct{ dir string }

func TestMain(m *testing.M) {
	embedded.LeaveToFull("TestBudgetSurvivesKill", "TestCleanStop", "TestFinanceCommands", "TestFrozenClickHouse", "TestInvoicesOverKills", "TestLateInsert",
		"TestPlanThatBlocksSurvivesKill", "TestQuarantine", "TestTamperedRows", "TestTwoOfEach")
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	if testing.Short() {
		if err := flag.Set("test.parallel", "6"); err != nil { // they wait more than they compute
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := buildCommands(); err != nil {
		fmt.Fprintln(os.Stderr, "build the commands:", err)
		return 1
	}
	defer os.RemoveAll(binaries.dir)
	return m.Run()
}

// buildCommands builds where `make build` does, since linking takes longer than
// most tests and what is up to date is not linked again. The tests run links of
// their own: a build in the meantime replaces the files, not what runs.
func buildCommands() error {
	const bin = "../bin"
	build := exec.Command("go", "build", "-o", bin+"/", "aione/cmd/aione", "aione/cmd/api", "aione/cmd/ingest", "aione/cmd/invoicer")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	dir, err := os.MkdirTemp(bin, ".crashtest-*")
	if err != nil {
		return err
	}
	if binaries.dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	for _, name := range []string{"aione", "api", "ingest", "invoicer"} {
		if err := os.Link(filepath.Join(bin, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
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
