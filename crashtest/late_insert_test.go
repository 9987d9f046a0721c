package crashtest

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestLateInsert kills an ingester whose INSERT is on its way through a slow
// proxy, and lets the INSERT arrive when the next ingester is at work.
func TestLateInsert(t *testing.T) {
	platformTest(t)
	r := random(t)
	p := newPlatform(t)
	p.installCatalog()
	acme := p.tenant("Acme")
	log, projection := p.log()
	p.serve()
	target := strings.TrimSuffix(strings.TrimPrefix(p.dsn, "http://"), "/aione")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var mu sync.Mutex
	armed := false
	held := make(chan []byte, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer s.Close()
				go func() { io.Copy(c, s); c.Close() }()
				buf := make([]byte, 1<<20)
				for {
					n, err := c.Read(buf)
					mu.Lock()
					hold := armed && bytes.Contains(buf[:n], []byte("INSERT"))
					if hold {
						armed = false
					}
					mu.Unlock()
					if hold {
						all := bytes.Clone(buf[:n])
						for err == nil && !bytes.HasSuffix(all, []byte("\r\n0\r\n\r\n")) {
							n, err = c.Read(buf)
							all = append(all, buf[:n]...)
						}
						held <- all
						io.Copy(io.Discard, c)
						return
					}
					if n > 0 {
						if _, err := s.Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	first := p.service("ingest", "AIONE_LEASE_TTL=1s", "CLICKHOUSE_DSN=http://"+l.Addr().String()+"/aione")
	p.leaseHolder([]*role{first})
	second := p.service("ingest", "AIONE_LEASE_TTL=1s")
	load := p.load(4, acme.chat, r)
	calm(t, load)
	mu.Lock()
	armed = true
	mu.Unlock()
	var request []byte
	select {
	case request = <-held:
	case <-time.After(startWithin):
		t.Fatal("no INSERT came by")
	}
	t.Logf("held %d bytes", len(request))
	last := first.retire()
	last.signal(syscall.SIGKILL)
	p.leaseHolder([]*role{second})
	before := p.rowsThrough(projection)
	for began := time.Now(); p.rowsThrough(projection) < before+5; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > startWithin {
			t.Fatal("the next ingester writes no rows")
		}
	}
	s, err := net.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	s.Write(request)
	s.SetReadDeadline(time.Now().Add(3 * time.Second))
	var answer []byte
	for buf := make([]byte, 4096); !bytes.Contains(answer, []byte("came after the lease")); { // the connection stays open
		n, err := s.Read(buf)
		if answer = append(answer, buf[:n]...); err != nil {
			break
		}
	}
	if !bytes.Contains(answer, []byte("came after the lease")) {
		t.Errorf("the late INSERT was answered %.300q, want a refusal", answer)
	}
	calm(t, load)
	attempts := load.end()
	p.settle(log, projection)
	p.judgeAll(acme, attempts, readTruth(t, log), []uuid.UUID{})
}
