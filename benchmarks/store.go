//go:build linux

package main

import (
	"fmt"
	"time"

	"zerofs/benchmarks/nbdclient"
	"zerofs/benchmarks/rig"
)

// flushRequests: 200 times a second a 4 KiB write at a random place of 1 GiB and a FLUSH, for a
// minute, durability local, interval 5 s. All requests of that minute count.
func (b *bench) flushRequests() ([]result, error) {
	s3, err := b.bucket(false)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	long := scale(b, time.Minute, 15*time.Second)
	l := &nbdclient.Load{Command: nbdclient.Write, Flush: true, Length: gib, Block: 4 * kib, Random: true, For: long, Every: 5 * time.Millisecond, Rand: b.rand}
	s3.Proxy.Reset()
	took, err := l.Run(s.Socket, rig.Device, 1)
	if err != nil {
		return nil, err
	}
	st := s3.Proxy.Stats()
	r := atMost(b.now, "S3 requests per interval of 5 s, at 200 FLUSHes a second", 5, float64(st.Requests)/(took.Seconds()/5))
	return []result{r.note("%.0f FLUSHes a second, p50 %v; %v", float64(len(l.Latencies))/took.Seconds(), nbdclient.Percentile(l.Latencies, 0.5).Round(time.Microsecond), st.Operations)}, nil
}

// idleRequests: the requests of a volume that nobody uses, default lease, for three minutes.
func (b *bench) idleRequests() ([]result, error) {
	s3, err := b.bucket(false)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	if err := b.fill(s, 16*mib); err != nil {
		return nil, err
	}
	time.Sleep(scale(b, 30*time.Second, 6*time.Second)) // what the writes left to do is over
	s3.Proxy.Reset()
	long := scale(b, 3*time.Minute, time.Minute)
	time.Sleep(long)
	st := s3.Proxy.Stats()
	r := atMost(b.now, "S3 requests per minute of an idle volume", 4, float64(st.Requests)/long.Minutes())
	return []result{r.note("%v in %v", st.Operations, long)}, nil
}

// putSequential: the bytes sent to the store for 4 GiB written once, one after another, until the
// volume has been stopped cleanly.
func (b *bench) putSequential() ([]result, error) {
	s3, err := b.bucket(false)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	size := scale(b, int64(4*gib), 256*mib)
	s, err := b.remote(s3, rig.Options{DeviceSize: "8GiB"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	if err := b.fill(s, size); err != nil {
		return nil, err
	}
	if err := s.Stop(); err != nil {
		return nil, err
	}
	st := s3.Proxy.Stats()
	r := atMost(b.now, "PUT bytes / user bytes, sequential", 1.1, float64(st.BytesUp)/float64(size))
	return []result{r.note("%d MiB written, %v", size/mib, st.Operations)}, nil
}

// putRandom: the bytes sent to the store for 1 GiB, written once and then overwritten in 8 KiB writes at random places
// six times, and the size of the bucket against that 1 GiB ten minutes later, during which the other
// rows are measured.
func (b *bench) putRandom() ([]result, func() ([]result, error), error) {
	s3, err := b.bucket(false)
	if err != nil {
		return nil, nil, err
	}
	size := scale(b, int64(gib), 64*mib)
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB"})
	if err != nil {
		s3.Stop()
		return nil, nil, err
	}
	end := func() { b.finish(s); s3.Stop() }
	if err := b.fill(s, size); err != nil {
		end()
		return nil, nil, err
	}
	s3.Proxy.Reset()
	const times = 6
	l := &nbdclient.Load{Command: nbdclient.Write, Length: size, Block: 8 * kib, Random: true, Count: int(times * size / (8 * kib)), Rand: b.rand}
	took, err := writeAndFlush(s, l, 32)
	ended := time.Now()
	if err == nil {
		err = s.Uploaded(5 * time.Minute)
	}
	if err != nil {
		end()
		return nil, nil, err
	}
	user := float64(times * size)
	st := s3.Proxy.Stats()
	r := atMost(b.now, "PUT bytes / user bytes, random 8 KiB overwrites, until all is uploaded", 3, float64(st.BytesUp)/user)
	r = r.note("%.0f MB/s from the client; %v", user/1e6/took.Seconds(), st.Operations)
	name := b.now
	later := func() ([]result, error) {
		defer end()
		time.Sleep(time.Until(ended.Add(scale(b, 10*time.Minute, 90*time.Second))))
		bytes, err := s3.Bytes("volume")
		if err != nil {
			return nil, err
		}
		up := s3.Proxy.Stats().BytesUp
		took := time.Since(ended).Round(time.Second)
		return []result{
			atMost(name, fmt.Sprintf("size of the bucket / live data, %v after the overwrites", took), 1.3, float64(bytes)/float64(size)),
			atMost(name, "PUT bytes / user bytes, random 8 KiB overwrites, with what was rewritten since", 3, float64(up)/user),
		}, nil
	}
	return []result{r}, later, nil
}

// objectDurable: 1,000 times a 4 KiB write and a FLUSH, 16 in flight, durability object, 30 ms per request.
func (b *bench) objectDurable() ([]result, error) {
	s3, err := b.bucket(true)
	if err != nil {
		return nil, err
	}
	defer s3.Stop()
	s, err := b.remote(s3, rig.Options{DeviceSize: "4GiB", Durability: "object"})
	if err != nil {
		return nil, err
	}
	defer b.finish(s)
	slow := s3.Proxy.Settings()
	slow.Latency = 30 * time.Millisecond
	s3.Proxy.Set(slow)
	s3.Proxy.Reset()
	l := &nbdclient.Load{Command: nbdclient.Write, Flush: true, Length: gib, Block: 4 * kib, Random: true, Count: 1000, Rand: b.rand}
	took, err := l.Run(s.Socket, rig.Device, 16)
	if err != nil {
		return nil, err
	}
	puts, _ := rig.Puts(s3.Proxy.Stats())
	p50 := nbdclient.Percentile(l.Latencies, 0.5)
	return []result{
		atMost(b.now, "PUTs for 1,000 FLUSHed writes, durability object", 150, float64(puts)).note("in %v", took.Round(time.Millisecond)),
		atMost(b.now, "p50 of them, ms", 75, float64(p50)/1e6).note("p99 %v", nbdclient.Percentile(l.Latencies, 0.99).Round(time.Millisecond)),
	}, nil
}
