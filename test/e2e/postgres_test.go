package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zerofs/test/versitygw"
)

// postgres is a PostgreSQL cluster below a directory.
type postgres struct {
	t       *testing.T
	bin     string // of its programs
	cluster string
	socket  string // directory
}

// needPostgres finds Debian's PostgreSQL.
func needPostgres(t *testing.T) string {
	t.Helper()
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "pg_amcheck")); err == nil {
			return dir
		}
	}
	missing(t, "no PostgreSQL with pg_amcheck below /usr/lib/postgresql")
	return ""
}

// as is a command of PostgreSQL's, run as its user: it refuses root.
func (pg *postgres) as(name string, args ...string) *exec.Cmd {
	full := append([]string{"-u", "postgres", "--", "env", "PGHOST=" + pg.socket, "LC_ALL=C.UTF-8", filepath.Join(pg.bin, name)}, args...)
	cmd := exec.Command("runuser", full...)
	cmd.Dir = "/"
	return cmd
}

func (pg *postgres) run(name string, args ...string) string {
	pg.t.Helper()
	out, err := pg.as(name, args...).CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(pg.socket, "log"))
		pg.t.Fatalf("%s %q: %v\n%s\nlog:\n%s", name, args, err, out, log)
	}
	return strings.TrimSpace(string(out))
}

func (pg *postgres) start() {
	pg.t.Helper()
	cmd := pg.as("pg_ctl", "-D", pg.cluster, "-w", "-t", "180", "-l", filepath.Join(pg.socket, "log"),
		"-o", "-c listen_addresses='' -c unix_socket_directories="+pg.socket+" -c shared_buffers=64MB -c max_wal_size=256MB", "start")
	// The server keeps what pg_ctl has open, so no pipe may be among it.
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(pg.socket, "log"))
		pg.t.Fatalf("start: %v\n%s", err, log)
	}
}

// stop stops it in good order.
func (pg *postgres) stop() {
	pg.t.Helper()
	if err := pg.as("pg_ctl", "-D", pg.cluster, "-w", "-t", "180", "-m", "fast", "stop").Run(); err != nil {
		pg.t.Fatalf("stop: %v", err)
	}
}

// crash ends it as the loss of its disk would.
func (pg *postgres) crash() {
	_ = pg.as("pg_ctl", "-D", pg.cluster, "-W", "-m", "immediate", "stop").Run()
}

// buried waits until the postmaster that the cluster's lock file names has ended, and removes the
// file: one that nobody has waited for yet looks alive to the next.
func (pg *postgres) buried() {
	pg.t.Helper()
	lock := filepath.Join(pg.cluster, "postmaster.pid")
	text, err := os.ReadFile(lock)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	must(pg.t, err)
	pid, _, _ := strings.Cut(string(text), "\n")
	for range 300 {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			must(pg.t, os.Remove(lock))
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	pg.t.Fatalf("postmaster %s does not end", pid)
}

func (pg *postgres) query(sql string) string {
	pg.t.Helper()
	return pg.run("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-c", sql)
}

// check has every page and index read, and pgbench's books balanced.
func (pg *postgres) check(what string) string {
	pg.t.Helper()
	pg.run("pg_amcheck", "--heapallindexed", "--parent-check", "-d", "postgres")
	books := pg.query(`select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
		(select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history), (select count(*) from pgbench_history)`)
	f := strings.Split(books, "|")
	if len(f) != 5 || f[0] != f[1] || f[0] != f[2] || f[0] != f[3] {
		pg.t.Errorf("%s: the books do not balance: %s", what, books)
	}
	if failures := pg.query("select coalesce(sum(checksum_failures), 0) from pg_stat_database"); failures != "0" {
		pg.t.Errorf("%s: %s checksum failures", what, failures)
	}
	return books
}

// TestPostgres runs PostgreSQL on ext4 on a volume in S3. The server is killed in mid-run; after a
// restart PostgreSQL recovers, and its books balance. Then an empty second host has the database.
func TestPostgres(t *testing.T) {
	needRoot(t, "mkfs.ext4", "runuser", "chown")
	pg := &postgres{t: t, bin: needPostgres(t), socket: tempDir(t)}
	sh(t, "chown", "postgres", pg.socket)
	p := s3Store(versitygw.Start(t), "", "postgres")
	sized := settings{device: "2GiB"}
	first := newHost(t, p, sized)
	s := first.start()
	d := first.attach()
	d.makeFS("ext4")
	m := d.mountFS()
	sh(t, "chown", "postgres", m)
	pg.cluster = filepath.Join(m, "cluster")
	pg.run("initdb", "-D", pg.cluster, "-k", "-A", "trust", "--no-instructions", "-E", "UTF8")
	pg.start()
	t.Cleanup(pg.crash)
	pg.query("create extension amcheck")
	pg.run("pgbench", "-i", "-q", "-s", "4", "postgres")
	pg.run("pgbench", "-c", "4", "-t", "100", "-n", "postgres")
	before := pg.check("before the crash")

	run := pg.as("pgbench", "-c", "4", "-T", "60", "-n", "postgres")
	run.Stdout, run.Stderr = &output{}, &output{}
	must(t, run.Start())
	rows := pg.query("select count(*) from pgbench_history")
	s.poll("transactions", func() bool { return pg.query("select count(*) > "+rows+"+100 from pgbench_history") == "t" })
	time.Sleep(500 * time.Millisecond)
	s.kill()
	_ = run.Wait() // it fails, as its server does
	pg.crash()
	d.drop()

	s = first.start()
	d = first.attach()
	m = d.mountFS()
	pg.cluster = filepath.Join(m, "cluster")
	pg.buried()
	pg.start()
	after := pg.check("after the crash")
	if before == after {
		t.Error("the run that was cut short left nothing")
	}
	pg.run("pgbench", "-c", "4", "-t", "50", "-n", "postgres")
	last := pg.check("after the next run")
	pg.stop()
	d.unmount()
	d.check("ext4")
	d.detach()
	s.stop()

	second := newHost(t, p, sized)
	s = second.start()
	d = second.attach()
	m = d.mountFS()
	pg.cluster = filepath.Join(m, "cluster")
	pg.start()
	if got := pg.check("on the second host"); got != last {
		t.Errorf("books of %s on the second host, want %s", got, last)
	}
	pg.stop()
	d.unmount()
	d.detach()
	s.stop()
	t.Logf("before %s, after the crash %s, at the end %s", before, after, last)
}
