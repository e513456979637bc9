//go:build linux

package main

import (
	"fmt"
	"path/filepath"
	"time"

	"zerofs/benchmarks/nbdclient"
	"zerofs/benchmarks/raw"
	"zerofs/benchmarks/rig"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// fuaOne: 4 KiB writes with FUA, one at a time, at random places of 1 GiB, against 4 KiB O_DIRECT RWF_DSYNC writes, one after another
// into a file of zeros.
func (b *bench) fuaOne() ([]result, error) {
	f, err := raw.Create(filepath.Join(b.dir, "fua1-raw"), 256*mib, nil)
	if err != nil {
		return nil, err
	}
	defer f.Remove()
	s, err := b.local(rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	if err := b.warmUp(s); err != nil {
		return nil, err
	}
	each := scale(b, 4*time.Second, time.Second)
	var ours, theirs []time.Duration
	for range scale(b, 4, 2) {
		lat, err := f.SyncedWrites(each, b.rand)
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, lat...)
		l := b.fua(each)
		if err := b.profile(s, int(each/time.Second), func() error { _, err := l.Run(s.Socket, rig.Device, 1); return err }); err != nil {
			return nil, err
		}
		ours = append(ours, l.Latencies...)
	}
	p, q := nbdclient.Percentile(ours, 0.5), nbdclient.Percentile(theirs, 0.5)
	r := atMost(b.now, "4 KiB FUA write, one at a time: p50 / raw", 1.6, float64(p)/float64(q))
	return []result{r.sides(micros(ours), micros(theirs)).note("%s", b.takeCPU(float64(len(ours))))}, nil
}

// micros tells p50 and p99.
func micros(ds []time.Duration) string {
	return fmt.Sprintf("p50 %.0f µs, p99 %.0f µs", float64(nbdclient.Percentile(ds, 0.5))/1e3, float64(nbdclient.Percentile(ds, 0.99))/1e3)
}

// fua is 4 KiB writes with FUA at random places of 1 GiB, for d.
func (b *bench) fua(d time.Duration) *nbdclient.Load {
	return &nbdclient.Load{Command: nbdclient.Write, Flags: nbdclient.FUA, Length: gib, Block: 4 * kib, Random: true, For: d, Rand: b.rand}
}

// warmUp brings the program to where it stays: the memory tier is full, memtables and journal
// segments have been used once.
func (b *bench) warmUp(s *rig.Server) error {
	size := scale(b, int64(768*mib), 64*mib)
	fill := &nbdclient.Load{Command: nbdclient.Write, Length: gib, Block: 64 * kib, Random: true, Count: int(size / (64 * kib)), Rand: b.rand}
	if _, err := writeAndFlush(s, fill, 8); err != nil {
		return err
	}
	if err := s.Uploaded(5 * time.Minute); err != nil {
		return err
	}
	_, err := b.fua(time.Second).Run(s.Socket, rig.Device, 64)
	return err
}

// fuaMany: the same with 64 in flight on one connection, against a naive group commit of 4 KiB
// records with 64 writers.
func (b *bench) fuaMany() ([]result, error) {
	f, err := raw.Create(filepath.Join(b.dir, "fua64-raw"), 256*mib, nil)
	if err != nil {
		return nil, err
	}
	defer f.Remove()
	s, err := b.local(rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	if err := b.warmUp(s); err != nil {
		return nil, err
	}
	each := scale(b, 4*time.Second, time.Second)
	var ours, theirs, ourTime, theirTime float64
	for range scale(b, 4, 2) {
		start := time.Now()
		n, err := f.GroupCommit(each, 64, b.rand)
		if err != nil {
			return nil, err
		}
		theirs, theirTime = theirs+float64(n), theirTime+time.Since(start).Seconds()
		l := b.fua(each)
		if err := b.profile(s, int(each/time.Second), func() error {
			took, err := l.Run(s.Socket, rig.Device, 64)
			ourTime += took.Seconds()
			return err
		}); err != nil {
			return nil, err
		}
		ours += float64(len(l.Latencies))
	}
	p, q := ours/ourTime, theirs/theirTime
	r := atLeast(b.now, "4 KiB FUA writes, 64 in flight: per second / raw group commit", 0.5, p/q)
	return []result{r.sides(fmt.Sprintf("%.1f k/s", p/1e3), fmt.Sprintf("%.1f k/s", q/1e3)).note("%s", b.takeCPU(ours))}, nil
}

// writeSequential: 1 MiB writes, 4 in flight, then FLUSH, on a part of the device never written
// before, against O_DIRECT writes of 1 MiB, 4 in flight, then fsync, of a new file.
func (b *bench) writeSequential() ([]result, error) {
	s, err := b.local(rig.Options{DeviceSize: "64GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	size := scale(b, int64(2*gib), 128*mib)
	var ours, theirs time.Duration
	const rounds = 2
	for i := range int64(rounds) {
		took, err := raw.SequentialWrite(filepath.Join(b.dir, "write-seq-raw"), size, 4, b.rand)
		if err != nil {
			return nil, err
		}
		theirs += took
		l := &nbdclient.Load{Command: nbdclient.Write, Start: i * size, Length: size, Block: mib, Count: int(size / mib), Rand: b.rand}
		if err := b.profile(s, scale(b, 6, 1), func() error { took, err = writeAndFlush(s, l, 4); return err }); err != nil {
			return nil, err
		}
		ours += took
		if err := s.Uploaded(5 * time.Minute); err != nil {
			return nil, err
		}
	}
	mbs := func(d time.Duration) string { return fmt.Sprintf("%.0f MB/s", rounds*float64(size)/1e6/d.Seconds()) }
	r := atLeast(b.now, "1 MiB sequential writes to the end of a FLUSH, against raw", 0.3, theirs.Seconds()/ours.Seconds())
	return []result{r.sides(mbs(ours), mbs(theirs)).note("%s", b.takeCPU(rounds*float64(size/mib)))}, nil
}

// writeAndFlush returns how long the load and a FLUSH after it took.
func writeAndFlush(s *rig.Server, l *nbdclient.Load, depth int) (time.Duration, error) {
	took, err := l.Run(s.Socket, rig.Device, depth)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = nbdclient.FlushAll(s.Socket, rig.Device)
	return took + time.Since(start), err
}

// fill writes size bytes one after another from the start of the device and waits until they are in the bucket.
func (b *bench) fill(s *rig.Server, size int64) error {
	l := &nbdclient.Load{Command: nbdclient.Write, Length: size, Block: mib, Count: int(size / mib), Rand: b.rand}
	if _, err := writeAndFlush(s, l, 4); err != nil {
		return err
	}
	return s.Uploaded(5 * time.Minute)
}
