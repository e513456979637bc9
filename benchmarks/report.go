//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// result is one line of the table.
type result struct {
	Row    string  `json:"row"`
	What   string  `json:"what"`
	Target string  `json:"target"`
	Value  float64 `json:"value"`
	Met    bool    `json:"met"`
	Ours   string  `json:"ours,omitempty"` // the two sides of a ratio
	Raw    string  `json:"raw,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// failed is what a row says that could not be measured.
const failed = "failed"

// atMost is a result whose value should not be above most.
func atMost(row, what string, most, value float64) result {
	return result{Row: row, What: what, Target: fmt.Sprintf("≤ %g", most), Value: value, Met: value <= most}
}

// atLeast is a result whose value should not be below least.
func atLeast(row, what string, least, value float64) result {
	return result{Row: row, What: what, Target: fmt.Sprintf("≥ %g", least), Value: value, Met: value >= least}
}

// sides adds what a ratio was made of.
func (r result) sides(ours, raw string) result {
	r.Ours, r.Raw = ours, raw
	return r
}

// note adds a remark.
func (r result) note(format string, args ...any) result {
	r.Note = fmt.Sprintf(format, args...)
	return r
}

func (r result) line() string {
	return fmt.Sprintf("%s: %s: %.3g (%s) %s | %s %s", r.Row, r.What, r.Value, r.Target, r.Ours, r.Raw, r.Note)
}

// printTable prints the results as a table in Markdown.
func printTable(w io.Writer, results []result) {
	fmt.Fprintf(w, "\n| row | what | target | measured | met | zerofs | other side | note |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range results {
		met := "no"
		if r.Met {
			met = "yes"
		}
		if r.Target == "" {
			met = ""
		}
		fmt.Fprintf(w, "| %s | %s | %s | %.3g | %s | %s | %s | %s |\n", r.Row, r.What, r.Target, r.Value, met, r.Ours, r.Raw, r.Note)
	}
}

// document is the results and where they come from.
type document struct {
	Date    string   `json:"date"`
	CPUs    int      `json:"cpus"`
	CPU     string   `json:"cpu"`
	Kernel  string   `json:"kernel"`
	Load    string   `json:"load_average"` // at the end
	Short   bool     `json:"short"`
	Results []result `json:"results"`
}

func report(results []result, short bool) document {
	d := document{Date: time.Now().UTC().Format(time.RFC3339), CPUs: runtime.NumCPU(), Short: short, Results: results}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		d.Load = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := bytes.Cut(text, []byte("model name\t: "))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		d.CPU = string(line)
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		d.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return d
}
