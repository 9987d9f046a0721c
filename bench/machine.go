package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is what the figures were taken on.
type Machine struct {
	Cores      int     `json:"cores"`
	CPU        string  `json:"cpu,omitempty"`
	Go         string  `json:"go"`
	ClickHouse string  `json:"clickhouse,omitempty"` // the embedded engine's version
	FsyncP50US float64 `json:"fsync_p50_us"`         // of 4 KiB appended to a file in the directory used
	FsyncP99US float64 `json:"fsync_p99_us"`
	Load1      float64 `json:"load1"` // what else was running when the measurement began
}

const fsyncs = 200

func inspect(dir string) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: procField("/proc/cpuinfo", "model name")}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		m.Load1, _ = strconv.ParseFloat(first, 64) // 0 where the system does not say
	}
	took, err := timeFsyncs(dir)
	if err != nil {
		return m, fmt.Errorf("measure fsync: %w", err)
	}
	m.FsyncP50US, m.FsyncP99US = micros(quantile(took, 0.50)), micros(quantile(took, 0.99))
	return m, nil
}

func timeFsyncs(dir string) ([]time.Duration, error) {
	f, err := os.CreateTemp(dir, "aione-bench-fsync-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	var took []time.Duration
	page := make([]byte, 4096)
	for range fsyncs {
		if _, err = f.Write(page); err != nil {
			break
		}
		began := time.Now()
		if err = f.Sync(); err != nil {
			break
		}
		took = append(took, time.Since(began))
	}
	return took, errors.Join(err, f.Close())
}

// procField is the first value of a "name : value" file, "" if there is none.
func procField(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// clockTick is the unit of /proc/PID/stat on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpuOf is the user and system time that a process has used; 0 where the system
// does not say.
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in brackets, may hold anything: count fields after it.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * clockTick
}

// quantile is the nearest-rank quantile; 0 of nothing.
func quantile(ds []time.Duration, q float64) time.Duration {
	if len(ds) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(ds))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// median is the middle figure, or the mean of the middle two.
func median(vs []float64) float64 {
	if len(vs) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(vs))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func millis(d time.Duration) float64 { return round(float64(d)/float64(time.Millisecond), 2) }

func micros(d time.Duration) float64 { return round(float64(d)/float64(time.Microsecond), 1) }

func perSecond(n int, d time.Duration) float64 { return round(float64(n)/d.Seconds(), 0) }

// round keeps the digits that a measurement can have.
func round(v float64, digits int) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'f', digits, 64), 64)
	if err != nil {
		return v
	}
	return r
}
