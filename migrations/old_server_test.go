//go:build oldserver

package migrations

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// oldConfig is the least that ClickHouse 18.16 starts with.
const oldConfig = `<?xml version="1.0"?>
<yandex>
    <logger><level>warning</level><console>1</console></logger>
    <tcp_port>%[1]d</tcp_port>
    <listen_host>127.0.0.1</listen_host>
    <path>%[2]s/data/</path>
    <tmp_path>%[2]s/tmp/</tmp_path>
    <format_schema_path>%[2]s/schemas/</format_schema_path>
    <users_config>%[2]s/users.xml</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <mark_cache_size>67108864</mark_cache_size>
</yandex>
`

const oldUsers = `<?xml version="1.0"?>
<yandex>
    <profiles><default></default></profiles>
    <users><default>
        <password></password>
        <networks><ip>127.0.0.1</ip></networks>
        <profile>default</profile>
        <quota>default</quota>
    </default></users>
    <quotas><default></default></quotas>
</yandex>
`

// TestOldServerIsRefused runs the ClickHouse that Debian ships, which
// AIONE_OLD_CLICKHOUSE names (scripts/old-clickhouse.sh fetches it).
func TestOldServerIsRefused(t *testing.T) {
	binary := os.Getenv("AIONE_OLD_CLICKHOUSE")
	if binary == "" {
		t.Fatal("AIONE_OLD_CLICKHOUSE is not set; it is what scripts/old-clickhouse.sh prints")
	}
	options := startOld(t, binary)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := Apply(ctx, options)
	if !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), "18.16") || !strings.Contains(err.Error(), MinVersion.String()) {
		t.Fatalf("error %v, want ErrTooOld with 18.16 and %s", err, MinVersion)
	}
	look := *options
	look.Auth.Database = "default"
	conn, err := clickhouse.Open(&look)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, query := range []string{
		"SELECT count() FROM system.databases WHERE name = '" + options.Auth.Database + "'",
		"SELECT count() FROM system.tables WHERE database = 'default'",
	} {
		var n uint64
		if err := conn.QueryRow(ctx, query).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d, %v; want none", query, n, err)
		}
	}
}

func startOld(t *testing.T, binary string) *clickhouse.Options {
	t.Helper()
	dir, port := t.TempDir(), freePort(t)
	for name, text := range map[string]string{"config.xml": fmt.Sprintf(oldConfig, port, dir), "users.xml": oldUsers} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command(binary, "--config-file="+filepath.Join(dir, "config.xml"))
	server.Dir = dir
	said := &strings.Builder{}
	server.Stdout, server.Stderr = said, said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() {
		server.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			server.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the server says:\n%s", said)
		}
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the server ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not listen: %v", err)
		}
	}
	return &clickhouse.Options{Addr: []string{address}, Auth: clickhouse.Auth{Database: "aione", Username: "default"}}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
