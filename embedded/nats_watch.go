package embedded

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// natsWatchEvery is how often a server whose store has failed is looked at: once
// the disk has room it is started again.
const natsWatchEvery = time.Second

// natsWriteError is how nats-server says, in its log alone, that a stream takes no
// more messages until the server is started again: publishers only see timeouts.
const natsWriteError = "Critical write error: "

// watch starts the server again after a store has failed, as soon as the disk has
// room. What was acknowledged is on disk, and clients reconnect by themselves.
func (n *NATS) watch() {
	defer close(n.watched)
	for said := ""; ; {
		select {
		case <-n.stop:
			return
		case <-time.After(natsWatchEvery):
		}
		err := n.Check()
		switch {
		case err == nil:
			said = ""
		case err.Error() != said:
			said = err.Error()
			n.log.Error(said + "; make room, or nothing more is recorded")
		}
		if !n.storeFailed() {
			continue
		}
		switch err := n.restart(); {
		case err == nil:
			n.log.Warn("NATS was started again, and takes messages")
		case !errors.Is(err, syscall.ENOSPC): // that has been said
			n.log.Error("NATS does not start again", "error", err)
		}
	}
}

func (n *NATS) storeFailed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.report.writeError() != ""
}

// restart replaces the server by one on the same store and port. While there is
// no room it leaves the old one: that one still answers readers.
func (n *NATS) restart() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := natsConfig(n.options); err != nil {
		return err
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	srv, report, err := startServer(n.options)
	if err != nil {
		return err
	}
	n.server, n.report = srv, report
	return nil
}

// Check says in one sentence what keeps the server from taking events. It is
// for readiness and for explaining a publish that timed out: on a disk that
// others have filled, nats-server acknowledges nothing and tells no client why.
// What was acknowledged is safe.
func (n *NATS) Check() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.server.Running() {
		return errors.New("NATS is not running")
	}
	freeBytes, err := diskFreeBytes(n.options.StoreDir)
	if err != nil {
		return err
	}
	failed := n.report.writeError()
	if freeBytes < natsDiskFullBytes || strings.Contains(failed, syscall.ENOSPC.Error()) {
		return dirError("NATS", n.options.StoreDir, syscall.ENOSPC)
	}
	if failed != "" {
		return fmt.Errorf("NATS cannot write to %s: %s", n.options.StoreDir, failed)
	}
	return nil
}

// InProcessConn is for nats.InProcessServer: a connection to the server of the
// moment.
func (n *NATS) InProcessConn() (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server.InProcessConn()
}
