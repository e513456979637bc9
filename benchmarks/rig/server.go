//go:build linux

// Package rig runs what is measured: zerofs as a process of its own, and the S3 server with a
// counting, delaying proxy before it.
package rig

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"zerofs/benchmarks/nbdclient"
	"zerofs/config"
	"zerofs/servers/admin"
)

// Device is the name of the only device.
const Device = "disk"

const defaultMemory = "256MiB"

// Options describe a volume and the host that runs it. What is left out has the program's default.
type Options struct {
	Dir        string // NVMe tier, journal, sockets and log; made if absent
	URL        string
	S3         *S3 // for s3:// URLs
	DeviceSize string
	Memory     string // "256MiB" if empty
	NVMe       string // "10GiB" if empty
	Durability string // "local" if empty
}

// Server is a running zerofs.
type Server struct {
	Socket string        // of NBD
	Ready  time.Duration // from the start of the process until a read was answered

	opts   Options
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{} // closed when err is set
	err    error
	peak   int64
}

// Start runs the program bin until it has answered a read.
func Start(bin string, o Options) (*Server, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{Socket: filepath.Join(o.Dir, "nbd.sock"), opts: o, exited: make(chan struct{})}
	os.Remove(s.Socket)
	conf, err := s.writeConfig()
	if err != nil {
		return nil, err
	}
	if s.log, err = os.OpenFile(filepath.Join(o.Dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(bin, "-config", conf)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.wait(5 * time.Minute); err != nil {
		s.Kill()
		return nil, err
	}
	s.Ready = time.Since(start)
	return s, nil
}

func (s *Server) writeConfig() (string, error) {
	o := s.opts
	pass := filepath.Join(o.Dir, "password")
	if err := os.WriteFile(pass, []byte("a password for measurements\n"), 0o600); err != nil {
		return "", err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "[volume]\nurl = %q\npassword_file = %q\nstop_timeout = \"5m\"\n", o.URL, pass)
	if o.S3 != nil {
		fmt.Fprintf(&b, "[tiers.object]\nendpoint = %q\naccess_key_id = %q\nsecret_access_key = %q\nallow_http = true\n",
			o.S3.Endpoint, o.S3.gw.AccessKeyID, o.S3.gw.SecretAccessKey)
	}
	fmt.Fprintf(&b, "[tiers.memory]\nsize = %q\n", or(o.Memory, defaultMemory))
	fmt.Fprintf(&b, "[tiers.nvme]\ndir = %q\nsize = %q\n", filepath.Join(o.Dir, "nvme"), or(o.NVMe, "10GiB"))
	fmt.Fprintf(&b, "[journal]\ndurability = %q\n", or(o.Durability, "local"))
	fmt.Fprintf(&b, "[servers.nbd]\nlisten = []\nunix_socket = %q\n", s.Socket)
	fmt.Fprintf(&b, "[[servers.nbd.device]]\nname = %q\nsize = %q\n", Device, o.DeviceSize)
	fmt.Fprintf(&b, "[servers.admin]\nunix_socket = %q\n", s.admin())
	conf := filepath.Join(o.Dir, "tiers.toml")
	return conf, os.WriteFile(conf, b.Bytes(), 0o600)
}

func or(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func (s *Server) admin() string { return filepath.Join(s.opts.Dir, "admin.sock") }

// wait waits until a read is answered.
func (s *Server) wait(limit time.Duration) error {
	buf := make([]byte, 4096)
	for end := time.Now().Add(limit); ; {
		c, err := nbdclient.Dial(s.Socket, Device)
		if err == nil {
			err = c.Run(1, &nbdclient.Once{Request: nbdclient.Request{Command: nbdclient.Read, Data: buf}})
			c.Close()
			return err
		}
		select {
		case <-s.exited:
			return fmt.Errorf("zerofs ended: %v; it said:\n%s", s.err, s.tail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("zerofs does not serve after %v; it said:\n%s", limit, s.tail())
		}
	}
}

// tail returns the last lines that the program logged.
func (s *Server) tail() string {
	b, _ := os.ReadFile(s.log.Name())
	return string(b[max(0, len(b)-2000):])
}

// Stop ends the program cleanly. Everything is uploaded then.
func (s *Server) Stop() error {
	s.Memory()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	<-s.exited
	s.log.Close()
	if s.err != nil {
		return fmt.Errorf("zerofs: stop: %v; it said:\n%s", s.err, s.tail())
	}
	return nil
}

// Kill ends the program at once. It may be called after Stop.
func (s *Server) Kill() {
	s.cmd.Process.Kill()
	<-s.exited
	s.log.Close()
}

// Memory returns the resident set now and at its peak, in bytes.
func (s *Server) Memory() (now, peak int64) {
	f, err := os.Open("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, s.peak
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		name, rest, _ := strings.Cut(sc.Text(), ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			now = kb << 10
		case "VmHWM":
			s.peak = max(s.peak, kb<<10)
		}
	}
	return now, s.peak
}

// MemoryTier returns the size of the memory tier in bytes.
func (s *Server) MemoryTier() int64 {
	n, err := config.ParseSize(or(s.opts.Memory, defaultMemory))
	if err != nil {
		panic(err) // it was a constant
	}
	return n
}

// Status is what the measurements need of "zerofs status -json".
type Status struct {
	Volume struct {
		LastLSN    uint64  `json:"last_lsn"`
		CoveredLSN uint64  `json:"covered_lsn"`
		Lag        float64 `json:"lag_seconds"`
		Tree       struct {
			DirtyBytes int64 `json:"dirty_bytes"`
			TableBytes int64 `json:"table_bytes"`
		} `json:"tree"`
		Memory struct {
			Hits   int64 `json:"hits"`
			Misses int64 `json:"misses"`
		} `json:"memory"`
	} `json:"volume"`
}

// Status asks the program.
func (s *Server) Status() (Status, error) {
	var st Status
	b, err := s.Get("/status")
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	return st, err
}

// Get fetches a page of the admin socket, such as a profile.
func (s *Server) Get(url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return admin.Call(ctx, s.admin(), "GET", url)
}

// Uploaded waits until the bucket holds everything and no table file waits for its upload.
func (s *Server) Uploaded(limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		st, err := s.Status()
		if err != nil {
			return err
		}
		if v := st.Volume; v.CoveredLSN >= v.LastLSN && v.Tree.DirtyBytes == 0 {
			return nil
		}
	}
	return fmt.Errorf("zerofs: not uploaded within %v", limit)
}

// CPU returns the processor time that the process has used so far.
func (s *Server) CPU() (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// After the name, which may hold anything: utime and stime are the 12th and 13th field, in ticks of 10 ms.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("rig: %d fields in the process's stat", len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
