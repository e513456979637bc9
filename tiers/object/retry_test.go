package object_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

// failFirst makes the first n requests for each operation and key meet a fault.
func failFirst(n int, fault objecttest.Fault) func(objecttest.Request) objecttest.Fault {
	return func(r objecttest.Request) objecttest.Fault {
		if r.Attempt <= n {
			return fault
		}
		return objecttest.Deliver
	}
}

func body(s string) object.Body { return bytes.NewReader([]byte(s)) }

func TestRetryConforms(t *testing.T) {
	objecttest.Conformance(t, func(t *testing.T) object.Store {
		f := objecttest.NewFaulty(1, nil)
		f.SetPlan(func(r objecttest.Request) objecttest.Fault {
			if !r.IfAbsent && r.Attempt%3 == 1 {
				return objecttest.Fail
			}
			return objecttest.Deliver
		})
		return object.Retry(f, object.RetryOptions{DelayMin: time.Microsecond, DelayMax: time.Microsecond})
	}, objecttest.Quirks{})
}

func TestRetryUntilItWorks(t *testing.T) {
	for _, fault := range []objecttest.Fault{objecttest.Fail, objecttest.Lose, objecttest.Hang, objecttest.HangLose} {
		synctest.Test(t, func(t *testing.T) {
			f := objecttest.NewFaulty(1, time.Now)
			f.SetPlan(failFirst(5, fault))
			s := object.Retry(f, object.RetryOptions{})
			if _, err := s.Put(t.Context(), "k", body("v"), object.PutOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := s.Head(t.Context(), "k"); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 2)
			if n, _, err := s.Get(t.Context(), "k", 0, buf); n != 1 || err != nil {
				t.Error(n, err)
			}
			if page, err := s.List(t.Context(), "", ""); len(page.Entries) != 1 || err != nil {
				t.Error(page, err)
			}
			if err := s.Delete(t.Context(), "k"); err != nil {
				t.Error(err)
			}
			if c := f.Counts(); c.Put != 6 || c.Head != 6 || c.Get != 6 || c.List != 6 || c.Delete != 6 {
				t.Errorf("%+v", c)
			}
			if c := object.CountsOf(s); c.Retried != 25 {
				t.Errorf("retried %d", c.Retried)
			}
		})
	}
}

func TestRetryEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetOutage(true)
		s := object.Retry(f, object.RetryOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := s.Head(ctx, "k")
		if !errors.Is(err, object.ErrTransient) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, objecttest.ErrOutage) {
			t.Errorf("%v", err)
		}
		if d := time.Since(begin); d != 100*time.Second {
			t.Errorf("ended after %v", d)
		}
		// 50 ms doubling to 5 s makes 8 attempts in 11.35 s, then one each 5 s.
		if n := f.Counts().Head; n < 20 || n > 30 {
			t.Errorf("%d attempts", n)
		}
	})
}

func TestRetryLeavesFinalErrorsAlone(t *testing.T) {
	for _, kind := range []object.Kind{object.NotFound, object.Denied, object.Fatal, object.Exists} {
		f := objecttest.NewFaulty(1, nil)
		f.SetBefore(func(_ context.Context, r objecttest.Request) error {
			return &object.Error{Op: r.Op, Key: r.Key, Kind: kind}
		})
		_, err := object.Retry(f, object.RetryOptions{}).Head(t.Context(), "k")
		if object.KindOf(err) != kind || f.Counts().Head != 1 {
			t.Errorf("%v: %v after %d attempts", kind, err, f.Counts().Head)
		}
	}
}

func TestRetryPassesConditionalPutsOnce(t *testing.T) {
	for _, fault := range []objecttest.Fault{objecttest.Fail, objecttest.Lose, objecttest.HangLose} {
		synctest.Test(t, func(t *testing.T) {
			f := objecttest.NewFaulty(1, time.Now)
			f.SetPlan(failFirst(1, fault))
			s := object.Retry(f, object.RetryOptions{})
			_, err := s.Put(t.Context(), "k", body("v"), object.PutOptions{IfAbsent: true})
			if !errors.Is(err, object.ErrTransient) || f.Counts().Put != 1 {
				t.Errorf("%v after %d attempts", err, f.Counts().Put)
			}
		})
	}
}

func TestRetryBoundsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetPlan(failFirst(1, objecttest.Hang))
		s := object.Retry(f, object.RetryOptions{Timeout: time.Second, RateMin: 100, DelayMin: time.Millisecond})
		begin := time.Now()
		if _, err := s.Put(t.Context(), "k", bytes.NewReader(make([]byte, 250)), object.PutOptions{}); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d != 3501*time.Millisecond {
			t.Errorf("took %v, want 1 s and 250 bytes at 100 a second, and the delay", d)
		}
	})
}

func TestRetryJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetPlan(failFirst(6, objecttest.Fail))
		var times []time.Duration
		begin := time.Now()
		f.SetBefore(func(context.Context, objecttest.Request) error {
			times = append(times, time.Since(begin))
			return nil
		})
		s := object.Retry(f, object.RetryOptions{DelayMin: time.Second, DelayMax: 8 * time.Second, Jitter: rand.New(rand.NewPCG(1, 1)).Float64})
		if _, err := s.List(t.Context(), "", ""); err != nil {
			t.Error(err)
		}
		for i, whole := range []time.Duration{1, 2, 4, 8, 8, 8} {
			d := times[i+1] - times[i]
			if d < whole*time.Second/2 || d > whole*time.Second {
				t.Errorf("delay %d is %v, want %d s or down to half of it", i, d, whole)
			}
		}
	})
}

func TestRetryLogsRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := objecttest.NewFaulty(1, time.Now)
		s := object.Retry(f, object.RetryOptions{Now: time.Now, Logger: slog.New(slog.NewTextHandler(&out, nil)), DelayMax: time.Second})
		f.SetOutage(true)
		time.AfterFunc(60*time.Second, func() { f.SetOutage(false) })
		if _, err := s.List(t.Context(), "log/", ""); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if _, err := s.List(t.Context(), "log/", ""); err != nil {
			t.Error(err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		warned := len(lines) - 1
		if warned < 6 || warned > 7 || !strings.Contains(lines[0], "op=list key=log/ attempt=1 suppressed=0") {
			t.Errorf("in 60 s of outage %d lines:\n%s", warned, out.String())
		}
		if !strings.Contains(lines[warned], "answers again") {
			t.Errorf("last line: %s", lines[warned])
		}
	})
}

func TestPutUnique(t *testing.T) {
	for _, c := range []struct {
		name   string
		before string // what the key holds
		faults []objecttest.Fault
		kind   object.Kind
		puts   int
	}{
		{"at once", "", nil, 0, 1},
		{"after errors", "", []objecttest.Fault{objecttest.Fail, objecttest.Fail}, 0, 3},
		{"after a lost answer", "", []objecttest.Fault{objecttest.Lose}, 0, 2},
		{"after a hang that had its effect", "", []objecttest.Fault{objecttest.HangLose, objecttest.Fail}, 0, 3},
		{"taken by another at first", "body", nil, object.Exists, 1},
		{"taken by another's size", "another body", []objecttest.Fault{objecttest.Fail}, object.Fatal, 2},
	} {
		for name, wrap := range map[string]func(object.Store) object.Store{
			"bare":     func(s object.Store) object.Store { return s },
			"retrying": func(s object.Store) object.Store { return object.Retry(s, object.RetryOptions{}) },
		} {
			synctest.Test(t, func(t *testing.T) {
				f := objecttest.NewFaulty(1, time.Now)
				if c.before != "" {
					f.Bucket().Set("k", []byte(c.before))
				}
				f.SetPlan(func(r objecttest.Request) objecttest.Fault {
					if r.Op == object.OpPut && r.Attempt <= len(c.faults) {
						return c.faults[r.Attempt-1]
					}
					return objecttest.Deliver
				})
				info, err := object.PutUnique(t.Context(), wrap(f), "k", body("body"))
				if object.KindOf(err) != c.kind || err == nil && info.Size != 4 {
					t.Errorf("%s, %s: %+v, %v", c.name, name, info, err)
				}
				if n := f.Counts().Put; n != c.puts {
					t.Errorf("%s, %s: %d puts", c.name, name, n)
				}
			})
		}
	}
}

func TestPutUniqueLateEffect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetFaults(objecttest.Faults{LateMin: time.Millisecond, LateMax: time.Millisecond})
		f.SetPlan(failFirst(1, objecttest.Late))
		if info, err := object.PutUnique(t.Context(), object.Retry(f, object.RetryOptions{}), "k", body("body")); err != nil || info.Size != 4 {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

func TestPutUniqueUnderFaults(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			f := objecttest.NewFaulty(seed, time.Now)
			f.SetFaults(objecttest.Faults{
				Fail: 0.2, Lose: 0.2, Late: 0.1, Hang: 0.05, HangLose: 0.05,
				LateMin: time.Millisecond, LateMax: time.Minute, LatencyMax: time.Second,
			})
			s := object.Retry(f, object.RetryOptions{})
			for _, key := range []string{"a", "b", "c", "d"} {
				if _, err := object.PutUnique(t.Context(), s, key, body(key)); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			if keys := f.Bucket().Keys(); !slices.Equal(keys, []string{"a", "b", "c", "d"}) {
				t.Errorf("seed %d: %q", seed, keys)
			}
		})
	}
}
