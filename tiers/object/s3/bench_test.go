package s3_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"zerofs/test/versitygw"
	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

func BenchmarkPut(b *testing.B) {
	s := open(b, reach(versitygw.Start(b)))
	for _, size := range []int{4 << 10, 256 << 10, 8 << 20, 64 << 20} {
		data := objecttest.Pattern(1, size)
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				key := fmt.Sprintf("put-%d/%d", size, i%8)
				if _, err := s.Put(b.Context(), key, bytes.NewReader(data), object.PutOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("4KiB-16-at-once", func(b *testing.B) {
		data := objecttest.Pattern(1, 4<<10)
		var n atomic.Int64
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				key := fmt.Sprintf("par/%d", n.Add(1)%512)
				if _, err := s.Put(b.Context(), key, bytes.NewReader(data), object.PutOptions{}); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkGet(b *testing.B) {
	s := open(b, reach(versitygw.Start(b)))
	data := objecttest.Pattern(1, 64<<20)
	if _, err := put(b, s, "k", data, false); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{4 << 10, 128 << 10, 1 << 20, 8 << 20} {
		for name, store := range map[string]object.Store{
			"bare":           s,
			"hedged-retried": object.Retry(object.Hedge(s, object.HedgeOptions{Now: time.Now}), object.RetryOptions{}),
		} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				dst := make([]byte, size)
				for i := 0; b.Loop(); i++ {
					if _, _, err := store.Get(b.Context(), "k", int64(i*size%len(data)), dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
