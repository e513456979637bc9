//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"zerofs/benchmarks/nbdclient"
	"zerofs/benchmarks/rig"
)

// start: from the start of the process until a read is answered, for a device of 100 GiB of which
// 1 GiB was written in random places, through a proxy that adds 15 ms: on the host that wrote it, and on an empty one.
func (b *bench) start() ([]result, error) {
	s3, err := b.bucket(true)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	warm := rig.Options{DeviceSize: "100GiB", Dir: b.place()}
	s, err := b.remote(s3, warm)
	if err != nil {
		return nil, err
	}
	size := scale(b, int64(gib), 64*mib)
	l := &nbdclient.Load{Command: nbdclient.Write, Length: 100 * gib, Block: 256 * kib, Random: true, Count: int(size / (256 * kib)), Rand: b.rand}
	if _, err := writeAndFlush(s, l, 4); err != nil {
		s.Kill()
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	slow := s3.Proxy.Settings()
	slow.Latency = 15 * time.Millisecond
	s3.Proxy.Set(slow)
	warmTime, warmNote, err := b.starts(s3, func() rig.Options { return warm })
	if err != nil {
		return nil, err
	}
	emptyTime, emptyNote, err := b.starts(s3, func() rig.Options { return rig.Options{DeviceSize: "100GiB"} })
	if err != nil {
		return nil, err
	}
	return []result{
		atMost(b.now, "start with a device of 100 GiB, warm, s", 1, warmTime.Seconds()).note("%s", warmNote),
		atMost(b.now, "the same on an empty host, s", 3, emptyTime.Seconds()).note("%s", emptyNote),
	}, nil
}

// starts returns the median of three starts, each after a clean stop.
func (b *bench) starts(s3 *rig.S3, host func() rig.Options) (time.Duration, string, error) {
	var took []time.Duration
	note := ""
	for range 3 {
		s3.Proxy.Reset()
		s, err := b.remote(s3, host())
		if err != nil {
			return 0, "", err
		}
		took = append(took, s.Ready)
		note = fmt.Sprint("until the first read ", s3.Proxy.Stats().Operations)
		if err := s.Stop(); err != nil {
			return 0, "", err
		}
	}
	slices.Sort(took)
	return took[1], fmt.Sprintf("from %.2f to %.2f s; %s", took[0].Seconds(), took[2].Seconds(), note), nil
}

// memory: the resident set beyond the memory tier (256 MiB): at its peak while four connections write and read, small and
// large, over 4 GiB at once, and when that has been over for a while.
func (b *bench) memory() ([]result, error) {
	s3, err := b.bucket(false)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	s, err := b.remote(s3, rig.Options{DeviceSize: "8GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	fresh, _ := s.Memory()
	size := scale(b, int64(4*gib), 256*mib)
	if err := b.fill(s, scale(b, int64(gib), 64*mib)); err != nil {
		return nil, err
	}
	long := scale(b, 30*time.Second, 5*time.Second)
	loads := []struct {
		load  nbdclient.Load
		depth int
	}{
		{nbdclient.Load{Command: nbdclient.Write, Flags: nbdclient.FUA, Block: 4 * kib, Random: true}, 64},
		{nbdclient.Load{Command: nbdclient.Write, Block: mib}, 16},
		{nbdclient.Load{Command: nbdclient.Read, Block: 4 * kib, Random: true}, 32},
		{nbdclient.Load{Command: nbdclient.Read, Block: mib}, 16},
	}
	errs := make(chan error, len(loads))
	for i := range loads {
		l := &loads[i].load
		l.Length, l.For, l.Rand = size, long, rand.New(rand.NewPCG(3, uint64(i)))
		go func() { _, err := l.Run(s.Socket, rig.Device, loads[i].depth); errs <- err }()
	}
	for range loads {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	if err := s.Uploaded(5 * time.Minute); err != nil {
		return nil, err
	}
	_, peak := s.Memory()
	time.Sleep(scale(b, 20*time.Second, 5*time.Second))
	rest, _ := s.Memory()
	beyond := func(n int64) float64 { return float64((n - s.MemoryTier()) / mib) }
	return []result{
		atMost(b.now, "resident at rest, beyond the memory tier, MiB", 512, beyond(rest)).note("%d MiB in all; when fresh %d MiB", rest/mib, fresh/mib),
		atMost(b.now, "resident under load, beyond the memory tier, MiB", 512, beyond(peak)).note("%d MiB in all", peak/mib),
	}, nil
}
