//go:build linux

// Command benchmarks measures zerofs: its speed against what the same disk, another server or the
// same store does by itself, and what it costs in requests, bytes and memory. Both sides of a ratio are measured
// in turns, in the same run. README.md says how each row is measured and what came out.
//
//	make bench                       all rows
//	make bench BENCH=fua1,start      some
//	make bench SHORT=1               all, with small working sets: does it work, not how fast is it
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"zerofs/benchmarks/rig"
)

// bench is one run.
type bench struct {
	bin      string // the program
	dir      string // on the disk that is measured
	fast     string // for buckets that should not load that disk: in memory if there is such a place
	short    bool
	rand     *rand.Rand
	now      string // the row being measured; its directories carry the name
	dirs     int
	peaks    int64         // highest resident set of any volume, beyond the memory tier
	profiles string        // directory for CPU profiles; empty: none
	cpu      time.Duration // that zerofs used in what was profiled since takeCPU
}

func main() {
	log.SetFlags(log.Ltime)
	rows := flag.String("rows", "", "names of rows, comma-separated; all if empty")
	short := flag.Bool("short", false, "small working sets")
	dir := flag.String("dir", "/var/tmp", "directory on the disk to measure")
	store := flag.String("store", "/dev/shm", "directory, best in memory, for the buckets of rows that measure the disk")
	out := flag.String("json", "", "file for the results as JSON")
	profiles := flag.String("profiles", "", "directory for CPU profiles of zerofs, taken during the speed rows")
	flag.Parse()
	if err := run(*rows, *dir, *store, *out, *profiles, *short); err != nil {
		log.Fatal("benchmarks: ", err)
	}
}

func run(names, dir, store, out, profiles string, short bool) error {
	picked, err := pick(names)
	if err != nil {
		return err
	}
	b := &bench{short: short, rand: rand.New(rand.NewPCG(1, 2)), profiles: profiles}
	if b.dir, err = os.MkdirTemp(dir, "zerofs-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if b.fast, err = os.MkdirTemp(store, "zerofs-bench-"); err != nil {
		b.fast = b.dir
	}
	defer os.RemoveAll(b.fast)
	cleanOnSignal(b.dir, b.fast)
	b.bin = filepath.Join(b.dir, "zerofs")
	build := exec.Command("go", "build", "-trimpath", "-o", b.bin, "./cmd/zerofs")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, text)
	}
	results := b.measure(picked)
	printTable(os.Stdout, results)
	if out != "" {
		text, err := json.MarshalIndent(report(results, short), "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(out, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	for _, r := range results {
		if r.What == failed {
			return errors.New("not every row could be measured")
		}
	}
	return nil
}

// cleanOnSignal removes directories when the run is cut short. Volumes end with this process, and
// the terminal's signal has reached the S3 servers too.
func cleanOnSignal(dirs ...string) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-ch
		for _, dir := range dirs {
			os.RemoveAll(dir)
		}
		os.Exit(1)
	}()
}

// pick returns the rows named, in the order in which they are measured.
func pick(names string) ([]row, error) {
	if names == "" {
		return rows, nil
	}
	want := strings.Split(names, ",")
	var picked []row
	for _, r := range rows {
		if i := slices.Index(want, r.name); i >= 0 {
			picked = append(picked, r)
			want = slices.Delete(want, i, i+1)
		}
	}
	if len(want) > 0 {
		var known []string
		for _, r := range rows {
			known = append(known, r.name)
		}
		return nil, fmt.Errorf("no row %s; there are %s", strings.Join(want, ", "), strings.Join(known, ", "))
	}
	return picked, nil
}

// measure measures rows one after another. A row that takes a long time to ripen goes on beside the
// next ones, and is looked at when they are done.
func (b *bench) measure(rows []row) []result {
	var results []result
	var ripening []func() []result
	for _, r := range rows {
		b.now, b.dirs = r.name, 0
		start := time.Now()
		log.Printf("%s: begins", r.name)
		res, later, err := r.measure(b)
		if err != nil {
			log.Printf("%s: %v", r.name, err)
			res = append(res, result{Row: r.name, What: failed, Note: err.Error()})
		}
		for _, x := range res {
			log.Print(x.line())
		}
		results = append(results, res...)
		log.Printf("%s: %v", r.name, time.Since(start).Round(time.Second))
		if later != nil {
			name := r.name
			ripening = append(ripening, func() []result {
				res, err := later()
				if err != nil {
					res = append(res, result{Row: name, What: failed, Note: err.Error()})
				}
				return res
			})
		}
	}
	for _, later := range ripening {
		results = append(results, later()...)
	}
	if b.peaks > 0 {
		results = append(results, atMost("memory", "peak in all rows beyond the memory tier, MiB", 512, float64(b.peaks>>20)))
	}
	return results
}

// place returns a new directory on the disk.
func (b *bench) place() string {
	b.dirs++
	return filepath.Join(b.dir, fmt.Sprintf("%s-%d", b.now, b.dirs))
}

// local starts a volume whose store is a directory, in memory where possible: for rows that measure
// what happens on this host.
func (b *bench) local(o rig.Options) (*rig.Server, error) {
	if o.URL == "" {
		b.dirs++
		dir := filepath.Join(b.fast, fmt.Sprintf("%s-%d", b.now, b.dirs))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		o.URL = "file://" + dir
	}
	if o.Dir == "" {
		o.Dir = b.place()
	}
	return rig.Start(b.bin, o)
}

// bucket starts an S3 server for one row. With fast its objects are in memory.
func (b *bench) bucket(fast bool) (*rig.S3, error) {
	if fast {
		return rig.StartS3(filepath.Join(b.fast, b.now+"-s3"))
	}
	return rig.StartS3(b.place())
}

// remote starts a volume in an S3 bucket.
func (b *bench) remote(s3 *rig.S3, o rig.Options) (*rig.Server, error) {
	o.S3, o.URL = s3, s3.URL("volume")
	if o.Dir == "" {
		o.Dir = b.place()
	}
	return rig.Start(b.bin, o)
}

// finish ends a volume and notes how much memory it took.
func (b *bench) finish(s *rig.Server) {
	_, peak := s.Memory()
	b.peaks = max(b.peaks, peak-s.MemoryTier())
	s.Kill()
}

// clean removes what a row left behind, so that the disk does not fill.
func (b *bench) clean() {
	for _, dir := range []string{b.dir, b.fast} {
		old, _ := filepath.Glob(filepath.Join(dir, b.now+"-*"))
		for _, path := range old {
			os.RemoveAll(path)
		}
	}
}

// scale returns full, or small in a short run.
func scale[T any](b *bench, full, small T) T {
	if b.short {
		return small
	}
	return full
}

// profile takes a CPU profile of the volume while f runs, if profiles are wanted.
func (b *bench) profile(s *rig.Server, seconds int, f func() error) error {
	before, err := s.CPU()
	if err != nil {
		return err
	}
	defer func() {
		if after, err := s.CPU(); err == nil {
			b.cpu += after - before
		}
	}()
	if b.profiles == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		text, err := s.Get(fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
		if err == nil {
			err = os.WriteFile(filepath.Join(b.profiles, b.now+".prof"), text, 0o644)
		}
		done <- err
	}()
	err = f()
	if perr := <-done; err == nil {
		err = perr
	}
	return err
}

// takeCPU returns what zerofs used of the processors per operation, and begins anew.
func (b *bench) takeCPU(ops float64) string {
	used := b.cpu
	b.cpu = 0
	return fmt.Sprintf("zerofs used %.0f µs of CPU per request", float64(used.Microseconds())/max(ops, 1))
}
