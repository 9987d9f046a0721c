package embedded_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"aione/embedded"
)

// parentEnv makes this binary a second process that runs the engines on a
// directory until it is killed.
const parentEnv = "AIONE_TEST_PARENT_DIR"

func TestMain(m *testing.M) {
	embedded.RunChildIfAsked()
	if dir := os.Getenv(parentEnv); dir != "" {
		os.Unsetenv(parentEnv)
		os.Exit(runParent(dir))
	}
	if dir := os.Getenv(fullDiskEnv); dir != "" {
		os.Exit(runOnFullDisk(dir))
	}
	os.Exit(embedded.TestMain(m, "TestKilledChildLosesAndDoublesNothing"))
}

func runParent(dir string) int {
	c, err := embedded.StartClickHouse(context.Background(), embedded.ClickHouseOptions{DataDir: dir + "/clickhouse"})
	if err == nil {
		_, err = embedded.StartNATS(embedded.NATSOptions{StoreDir: dir + "/nats", Port: embedded.NATSPortNone})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(c.ChildPID(), c.DSN())
	select {}
}
