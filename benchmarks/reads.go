//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"zerofs/benchmarks/nbdclient"
	"zerofs/benchmarks/raw"
	"zerofs/benchmarks/rig"
)

// readMemory: fio reads 4 KiB at random from 128 MiB that the memory tier (256 MiB) holds, 32 in
// flight, against nbdkit's memory plugin.
func (b *bench) readMemory() ([]result, error) {
	s, err := b.local(rig.Options{DeviceSize: "1GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	const size = 128 * mib
	if err := b.fill(s, size); err != nil {
		return nil, err
	}
	for range 3 { // once to bring it in, and again to bring in what was not let in at first
		warm := &nbdclient.Load{Command: nbdclient.Read, Length: size, Block: 64 * kib, Count: size / (64 * kib), Rand: b.rand}
		if _, err := warm.Run(s.Socket, rig.Device, 8); err != nil {
			return nil, err
		}
	}
	kit, stop, err := b.nbdkit("1G")
	if err != nil {
		return nil, err
	}
	defer stop()
	fillKit := &nbdclient.Load{Command: nbdclient.Write, Length: size, Block: mib, Count: size / mib, Rand: b.rand}
	if _, err := fillKit.Run(kit, "", 4); err != nil {
		return nil, err
	}
	seconds := scale(b, 5, 1)
	before, err := s.Status()
	if err != nil {
		return nil, err
	}
	var ours, theirs float64
	for range scale(b, 3, 1) {
		n, err := b.fio(kit, "", size, seconds)
		if err != nil {
			return nil, err
		}
		theirs += n
		if err := b.profile(s, seconds, func() error { n, err = b.fio(s.Socket, rig.Device, size, seconds); return err }); err != nil {
			return nil, err
		}
		ours += n
	}
	after, err := s.Status()
	if err != nil {
		return nil, err
	}
	rounds := float64(scale(b, 3, 1))
	hits, misses := after.Volume.Memory.Hits-before.Volume.Memory.Hits, after.Volume.Memory.Misses-before.Volume.Memory.Misses
	r := atLeast(b.now, "4 KiB random reads from memory, 32 in flight, against nbdkit's memory plugin", 0.9, ours/theirs)
	r = r.sides(fmt.Sprintf("%.1f k/s", ours/rounds/1e3), fmt.Sprintf("%.1f k/s", theirs/rounds/1e3))
	return []result{r.note("%.1f %% hits; %s", 100*float64(hits)/float64(max(hits+misses, 1)), b.takeCPU(ours*float64(seconds)))}, nil
}

// nbdkit starts the memory plugin and returns its socket.
func (b *bench) nbdkit(size string) (socket string, stop func(), err error) {
	socket = filepath.Join(b.dir, b.now+"-nbdkit.sock")
	cmd := exec.Command("nbdkit", "-f", "-U", socket, "memory", size)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	for range 500 {
		if _, err := os.Stat(socket); err == nil {
			return socket, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("nbdkit does not listen on %s", socket)
}

// fio reads 4 KiB at random, 32 in flight, and returns how many a second.
func (b *bench) fio(socket, export string, size int64, seconds int) (float64, error) {
	out := filepath.Join(b.dir, b.now+"-fio.json")
	cmd := exec.Command("fio", "--name=randread", "--ioengine=nbd", "--uri=nbd+unix:///"+export+"?socket="+socket,
		"--rw=randread", "--bs=4k", "--iodepth=32", fmt.Sprintf("--size=%d", size), "--time_based",
		fmt.Sprintf("--runtime=%d", seconds), "--output-format=json", "--output="+out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("fio: %w\n%s", err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return 0, err
	}
	var doc struct {
		Jobs []struct{ Read struct{ IOPS float64 } }
	}
	if err := json.Unmarshal(text, &doc); err != nil || len(doc.Jobs) == 0 {
		return 0, fmt.Errorf("fio: no result: %w", err)
	}
	return doc.Jobs[0].Read.IOPS, nil
}

// readNVMe: 4 KiB reads at random from 1 GiB on NVMe, with a memory tier of 16 MiB, 16 in flight on one
// connection, against O_DIRECT reads of a file of 1 GiB by 16 threads.
func (b *bench) readNVMe() ([]result, error) {
	size := scale(b, int64(gib), 64*mib)
	f, err := raw.Create(filepath.Join(b.dir, "read-nvme-raw"), size, b.rand)
	if err != nil {
		return nil, err
	}
	defer f.Remove()
	o := rig.Options{DeviceSize: "4GiB", Memory: "16MiB", Dir: b.place(), URL: "file://" + filepath.Join(b.fast, b.now+"-store")}
	s, err := b.local(o)
	if err != nil {
		return nil, err
	}
	if err := b.fill(s, size); err != nil {
		s.Kill()
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	if s, err = b.local(o); err != nil {
		return nil, err
	}
	defer b.finish(s)
	each := scale(b, 4*time.Second, time.Second)
	read := func(d time.Duration) *nbdclient.Load {
		return &nbdclient.Load{Command: nbdclient.Read, Length: size, Block: 4 * kib, Random: true, For: d, Rand: b.rand}
	}
	if _, err := read(each/2).Run(s.Socket, rig.Device, 16); err != nil {
		return nil, err
	}
	var ours, theirs, took float64
	rounds := scale(b, 3, 1)
	for i := range rounds {
		n, err := f.RandomReads(each, 16, uint64(i))
		if err != nil {
			return nil, err
		}
		theirs += float64(n)
		l := read(each)
		if err := b.profile(s, int(each/time.Second), func() error {
			d, err := l.Run(s.Socket, rig.Device, 16)
			took += d.Seconds()
			return err
		}); err != nil {
			return nil, err
		}
		ours += float64(len(l.Latencies))
	}
	p, q := ours/took, theirs/(float64(rounds)*each.Seconds())
	r := atLeast(b.now, "4 KiB random reads from NVMe, 16 in flight, against raw", 0.3, p/q)
	return []result{r.sides(fmt.Sprintf("%.1f k/s", p/1e3), fmt.Sprintf("%.1f k/s", q/1e3)).note("%s", b.takeCPU(ours))}, nil
}

// readCold: 1 GiB read in 1 MiB requests, 4 in flight, by a host that has nothing of it, through a
// proxy that adds 20 ms and lets 300 MB/s pass, against ranges of 1 MiB of one object fetched through the same
// proxy, 16 at once.
func (b *bench) readCold() ([]result, error) {
	size := scale(b, int64(gib), 64*mib)
	s3, err := b.bucket(true)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	err = s3.PlaceObject("raw/object", func(w io.Writer) error {
		for range size / mib {
			if _, err := w.Write(nbdclient.RandomBytes(b.rand, mib)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return nil, err
	}
	if err := b.fill(s, size); err != nil {
		s.Kill()
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	slow := s3.Proxy.Settings()
	slow.Latency, slow.BytesPerSecond = 20*time.Millisecond, 300e6
	var ours, theirs time.Duration
	const rounds = 2
	for range rounds {
		s3.Proxy.Set(slow)
		took, err := s3.FetchRanges("raw/object", size, mib, 16)
		if err != nil {
			return nil, err
		}
		theirs += took
		if took, err = b.readColdOnce(s3, size); err != nil {
			return nil, err
		}
		ours += took
	}
	mbs := func(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", rounds*float64(size)/1e6/d.Seconds()) }
	r := atLeast(b.now, "sequential read, nothing of it local, against raw ranges", 0.8, theirs.Seconds()/ours.Seconds())
	return []result{r.sides(mbs(ours), mbs(theirs))}, nil
}

// readColdOnce reads the device on an empty host.
func (b *bench) readColdOnce(s3 *rig.S3, size int64) (time.Duration, error) {
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return 0, err
	}
	l := &nbdclient.Load{Command: nbdclient.Read, Length: size, Block: mib, Count: int(size / mib), Rand: b.rand}
	var took time.Duration
	if err := b.profile(s, scale(b, 4, 1), func() error { took, err = l.Run(s.Socket, rig.Device, 4); return err }); err != nil {
		s.Kill()
		return 0, err
	}
	return took, s.Stop()
}
