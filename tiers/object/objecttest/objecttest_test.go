package objecttest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

func TestMemory(t *testing.T) {
	objecttest.Conformance(t, func(*testing.T) object.Store { return object.NewMemory(time.Now) }, objecttest.Quirks{})
}

func TestFaultyWithoutFaults(t *testing.T) {
	objecttest.Conformance(t, func(*testing.T) object.Store { return objecttest.NewFaulty(1, nil) }, objecttest.Quirks{})
}

func TestFaultyUnordered(t *testing.T) {
	objecttest.Conformance(t, func(*testing.T) object.Store {
		f := objecttest.NewFaulty(1, nil)
		f.SetUnordered(true)
		f.SetPageMax(90)
		return f
	}, objecttest.Quirks{})
}

func put(f *objecttest.Faulty, key, data string) error {
	_, err := f.Put(context.Background(), key, bytes.NewReader([]byte(data)), object.PutOptions{IfAbsent: true})
	return err
}

// plan makes each request meet the next fault, and then none.
func plan(faults ...objecttest.Fault) func(objecttest.Request) objecttest.Fault {
	return func(r objecttest.Request) objecttest.Fault {
		if r.N > len(faults) {
			return objecttest.Deliver
		}
		return faults[r.N-1]
	}
}

func TestFaultsHaveTheirEffects(t *testing.T) {
	for _, c := range []struct {
		fault objecttest.Fault
		there bool // the object exists after the answer
		late  bool // it exists after Land
	}{
		{objecttest.Fail, false, false},
		{objecttest.Lose, true, true},
		{objecttest.Late, false, true},
		{objecttest.Hang, false, false},
		{objecttest.HangLose, true, true},
	} {
		t.Run(fmt.Sprint(c.fault), func(t *testing.T) {
			f := objecttest.NewFaulty(1, nil)
			f.SetPlan(plan(c.fault))
			ctx, cancel := context.WithCancel(t.Context())
			f.SetBefore(func(context.Context, objecttest.Request) error {
				if c.fault >= objecttest.Hang {
					time.AfterFunc(time.Millisecond, cancel)
				}
				return nil
			})
			_, err := f.Put(ctx, "k", bytes.NewReader([]byte("v")), object.PutOptions{})
			if !errors.Is(err, object.ErrTransient) {
				t.Fatalf("put: %v", err)
			}
			if _, ok := f.Bucket().Object("k"); ok != c.there {
				t.Fatalf("after the answer: there %v", ok)
			}
			f.Bucket().Land()
			if _, ok := f.Bucket().Object("k"); ok != c.late {
				t.Fatalf("after Land: there %v", ok)
			}
		})
	}
}

func TestLatePutLosesToAnEarlierOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := objecttest.NewBucket(time.Now)
		one, two := b.Connect(1), b.Connect(2)
		one.SetFaults(objecttest.Faults{Late: 1, LateMin: time.Second, LateMax: time.Second})
		if err := put(one, "slot", "one"); !errors.Is(err, object.ErrTransient) {
			t.Fatal(err)
		}
		if err := put(one, "free", "one"); !errors.Is(err, object.ErrTransient) {
			t.Fatal(err)
		}
		if err := put(two, "slot", "two"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(999 * time.Millisecond)
		if keys := b.Keys(); !slices.Equal(keys, []string{"slot"}) {
			t.Fatalf("before its time: %q", keys)
		}
		time.Sleep(time.Millisecond)
		if err := put(two, "free", "two"); !errors.Is(err, object.ErrExists) {
			t.Fatalf("after its time: %v", err)
		}
		if data, _ := b.Object("slot"); string(data) != "two" {
			t.Fatalf("slot holds %q", data)
		}
	})
}

func TestOutageKillAndCounts(t *testing.T) {
	b := objecttest.NewBucket(nil)
	one, two := b.Connect(1), b.Connect(2)
	one.SetOutage(true)
	if err := put(one, "a", "1"); !errors.Is(err, objecttest.ErrOutage) || !errors.Is(err, object.ErrTransient) {
		t.Fatal(err)
	}
	if err := put(two, "a", "2"); err != nil {
		t.Fatal(err)
	}
	one.SetOutage(false)
	if err := put(one, "a", "1"); !errors.Is(err, object.ErrExists) {
		t.Fatal(err)
	}
	one.Kill()
	if err := put(one, "b", "1"); !errors.Is(err, objecttest.ErrKilled) {
		t.Fatal(err)
	}
	if c := one.Counts(); c.Put != 3 || c.Failed != 1 {
		t.Fatalf("counts %+v", c)
	}
	if keys := b.Keys(); !slices.Equal(keys, []string{"a"}) {
		t.Fatalf("keys %q", keys)
	}
}

func TestKillEndsRequestsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := objecttest.NewFaulty(1, time.Now)
		f.SetFaults(objecttest.Faults{LatencyMin: time.Second, LatencyMax: time.Second})
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := put(f, "a", "1"); !errors.Is(err, objecttest.ErrKilled) {
				t.Errorf("put: %v", err)
			}
		})
		time.Sleep(400 * time.Millisecond)
		f.Kill()
		wg.Wait()
		if keys := f.Bucket().Keys(); len(keys) != 0 {
			t.Fatalf("keys %q", keys)
		}
	})
}

func TestCloneAndRestore(t *testing.T) {
	b := objecttest.NewBucket(nil)
	f := b.Connect(1)
	for _, key := range []string{"a", "b"} {
		if err := put(f, key, key); err != nil {
			t.Fatal(err)
		}
	}
	snap := b.Clone()
	if err := put(f, "c", "c"); err != nil {
		t.Fatal(err)
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if keys := snap.Keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Fatalf("the clone moved: %q", keys)
	}
	b.Restore(snap)
	if keys := b.Keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Fatalf("after the roll-back: %q", keys)
	}
	if err := put(f, "c", "again"); err != nil {
		t.Fatal(err)
	}
	b.Flip("c", 0, 1)
	if data, _ := b.Object("c"); string(data) != "`gain" {
		t.Fatalf("after the flip: %q", data)
	}
	if keys := snap.Keys(); !slices.Equal(keys, []string{"a", "b"}) {
		t.Fatalf("the snapshot follows the bucket: %q", keys)
	}
}

// outcomes runs requests from several goroutines and returns what became of each.
func outcomes(seed uint64, workers int) string {
	f := objecttest.NewFaulty(seed, nil)
	f.SetFaults(objecttest.Faults{Fail: 0.2, Lose: 0.2, Late: 0.2})
	got := make([]string, 60)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(got); i += workers {
				for range 3 {
					got[i] += fmt.Sprint(object.KindOf(put(f, fmt.Sprintf("k%d", i), "v")), " ")
				}
			}
		})
	}
	wg.Wait()
	f.Bucket().Land()
	return fmt.Sprint(got, f.Bucket().Keys(), f.Counts())
}

func TestFaultsFollowFromTheSeed(t *testing.T) {
	one := outcomes(7, 1)
	for range 3 {
		if many := outcomes(7, 8); many != one {
			t.Fatalf("another schedule, other faults:\n%s\n%s", one, many)
		}
	}
	if outcomes(8, 1) == one {
		t.Fatal("another seed, the same faults")
	}
}
