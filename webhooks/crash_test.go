package webhooks

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"aione/embedded"
	"aione/events"
)

// A process that is killed is this test binary, told by these what to do.
const (
	childDirEnv = "AIONE_WEBHOOKS_CHILD_DIR"
	childOrgEnv = "AIONE_WEBHOOKS_CHILD_ORG"
	childURLEnv = "AIONE_WEBHOOKS_CHILD_URL" // empty: make nothing happen, only deliver
)

const childRecordEvery = 100 * time.Millisecond

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDirEnv); dir != "" {
		if err := runChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(embedded.TestMain(m, "TestKilledProcessForgetsNothing"))
}

// runChild is a whole process: a log on disk, a deliverer, and events that go on
// until it is killed. It says what is in the log.
func runChild(dir string) error {
	ctx := context.Background()
	server, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if err != nil {
		return err
	}
	nc, err := server.Conn()
	if err != nil {
		return err
	}
	log, err := events.Open(ctx, nc, events.Options{})
	if err != nil {
		return err
	}
	book, err := NewBook(thingTypes, translateThing)
	if err != nil {
		return err
	}
	go log.Follow(ctx, 1, book.Apply)
	d, err := NewDeliverer(Config{Log: log, Book: book, Secrets: theSecrets, Now: time.Now, Logger: slog.New(slog.DiscardHandler), Holder: "child",
		Destinations: loopback, RecordEvery: childRecordEvery, LeaseTTL: time.Second})
	if err != nil {
		return err
	}
	go d.Run(ctx)
	org, err := uuid.Parse(os.Getenv(childOrgEnv))
	if err != nil {
		return err
	}
	url := os.Getenv(childURLEnv)
	if url == "" {
		return finish(log, book, org)
	}
	if len(book.Endpoints(org)) == 0 {
		c := Commands{Log: log, Book: book, Secrets: theSecrets, Destinations: loopback}
		_, secret, err := c.Create(ctx, CreateInput{OrgID: org, ID: org, URL: url}, by())
		if err != nil {
			return err
		}
		fmt.Println("secret", secret)
	}
	for len(book.unannounced()) > 0 {
		time.Sleep(time.Millisecond)
	}
	for {
		r, err := events.NewRecord("thing.born", time.Now(), "test", "", thing{OrgID: org})
		if err != nil {
			return err
		}
		if _, err := log.Append(ctx, events.Append{Subject: "LEDGER.thing." + r.ID.String(), Record: r}); err != nil {
			return err
		}
		fmt.Println("happened", formatMessageID(messageID(r.ID)))
		time.Sleep(time.Millisecond)
	}
}

// finish returns when nothing waits any more.
func finish(log *events.Log, book *Book, org uuid.UUID) error {
	end, err := log.LedgerEnd(context.Background())
	if err != nil {
		return err
	}
	if err := book.WaitFor(context.Background(), end); err != nil {
		return err
	}
	for until := time.Now().Add(testBound); ; time.Sleep(5 * time.Millisecond) {
		_, waiting, err := book.Deliveries(org, org, StatusWaiting, 1, 1)
		if err != nil || waiting == 0 {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("%d messages wait for ever", waiting)
		}
	}
}

// child runs a process and hands its lines on until it ends.
func child(t *testing.T, dir, org, url string, line func(string)) (kill func(), wait func() error) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childDirEnv+"="+dir, childOrgEnv+"="+org, childURLEnv+"="+url)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var read sync.WaitGroup
	read.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line(lines.Text())
		}
	})
	wait = sync.OnceValue(func() error { read.Wait(); return c.Wait() })
	kill = func() { _ = c.Process.Signal(syscall.SIGKILL); _ = wait() }
	t.Cleanup(kill)
	return kill, wait
}

// A process killed with SIGKILL, again and again, while events happen and are
// delivered: each event that was in the log is delivered, always under its id, and
// what comes twice are the attempts of the last moments before a kill.
func TestKilledProcessForgetsNothing(t *testing.T) {
	t.Parallel()
	r := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Millisecond)
		w.WriteHeader(http.StatusOK)
	})
	dir, org := t.TempDir(), uuid.NewString()
	var mu sync.Mutex
	happened, secret := map[string]bool{}, ""
	line := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		switch what, value, _ := strings.Cut(s, " "); what {
		case "happened":
			happened[value] = true
		case "secret":
			secret = value
		}
	}
	said := func() int { mu.Lock(); defer mu.Unlock(); return len(happened) }
	const rounds = 4
	for range rounds {
		before, calls := said(), len(r.got())
		kill, _ := child(t, dir, org, r.URL, line)
		eventually(t, "events happen and are delivered", func() bool { return said() > before+50 && len(r.got()) > calls+50 })
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
		kill()
	}
	if _, wait := child(t, dir, org, "", line); wait() != nil {
		t.Fatal("what was left over was not delivered")
	}
	counts := r.counts()
	for id := range happened {
		if counts[id] == 0 {
			t.Errorf("message %s was never delivered", id)
		}
	}
	for _, c := range r.got() {
		if verify(t, secret, c) != nil {
			t.Errorf("message %s is not signed with the secret", c.id())
		}
	}
	repeated := 0
	for id, n := range counts {
		if repeated += n - 1; n > rounds+1 {
			t.Errorf("message %s came %d times", id, n)
		}
	}
	for id, n := range deliveredIn(t, dir) {
		if n != 1 {
			t.Errorf("message %s was attempted again although the log had its delivery: it has %d", id, n)
		}
	}
	t.Logf("%d messages, %d kills, %d repetitions", len(happened), rounds, repeated)
}

// deliveredIn counts, in the log that a process has left, how often each message is
// recorded as delivered.
func deliveredIn(t *testing.T, dir string) map[string]int {
	t.Helper()
	server, err := embedded.StartNATS(embedded.NATSOptions{StoreDir: dir, Port: embedded.NATSPortNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ids, delivered := map[uint64]string{}, map[string]int{}
	newWorldOn(t, server).each(func(r events.Record) {
		switch r.Type {
		case "thing.born":
			ids[r.Seq] = formatMessageID(messageID(r.ID))
			delivered[ids[r.Seq]] = 0
		case recordAttempted:
			var d attemptedData
			if err := r.Into(&d); err != nil {
				t.Fatal(err)
			}
			for _, o := range d.Outcomes {
				if o.Status == StatusDelivered {
					delivered[ids[o.Seq]]++
				}
			}
		}
	})
	return delivered
}

// Of several processes one delivers; the next goes on when it is stopped, and when
// it is cut off from the log without a word.
func TestOneProcessDeliversAtATime(t *testing.T) {
	t.Parallel()
	server := embedded.OpenNATS(t)
	r := receive(t, nil)
	nc, err := server.Conn()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	lost, err := events.Open(t.Context(), nc, events.Options{Logger: slog.New(slog.DiscardHandler), ConfirmWithin: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	a, b := newWorldOn(t, server), newWorldOn(t, server)
	b.org = a.org
	quick := func(c *Config) { c.LeaseTTL = 2 * time.Second }
	stop := a.deliver(quick)
	stopB := b.deliver(quick)
	e, _ := a.create(r.URL)
	ids := a.happen("thing.born", 50)
	a.settled(e, 50)
	stop()
	ids = append(ids, a.happen("thing.born", 50)...)
	a.settled(e, 100)
	stopB()

	// A third one, whose log is cut off while it delivers.
	a.deliver(quick, func(c *Config) { c.Log = lost })
	ids = append(ids, b.happen("thing.born", 50)...)
	b.settled(e, 150)
	nc.Close()
	b.deliver(quick)
	ids = append(ids, b.happen("thing.born", 50)...)
	b.settled(e, 200)
	for _, id := range ids {
		if n := r.counts()[id]; n != 1 {
			t.Errorf("message %s came %d times", id, n)
		}
	}
}
