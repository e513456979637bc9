package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

const modelBytes = 12 // the last stands for all bytes to the end

// byteModel says of each byte who has it: 0 nobody, 1 shared, 2 exclusive.
type byteModel struct {
	ranges [modelBytes]map[Owner]int
	whole  map[Owner]bool
}

func (m *byteModel) conflict(l Lock) bool {
	for b := l.Start; b <= min(l.End, modelBytes-1); b++ {
		for o, kind := range m.ranges[b] {
			if o != l.Owner && (l.Exclusive || kind == 2) {
				return true
			}
		}
	}
	return false
}

// TestModel runs random calls and compares each answer, and the table after each, with the model.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, model := New(), &byteModel{whole: map[Owner]bool{}}
		for i := range model.ranges {
			model.ranges[i] = map[Owner]int{}
		}
		owners := rapid.Custom(func(t *rapid.T) Owner {
			return Owner{rapid.Uint64Range(1, 2).Draw(t, "client"), rapid.Uint64Range(1, 2).Draw(t, "id")}
		})
		ctx := context.Background()
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				l := drawLock(t, owners)
				err := table.Set(ctx, 7, l, false)
				_, found := table.Test(7, l)
				if model.conflict(l) {
					if !errors.Is(err, ErrWouldBlock) || !found {
						t.Fatalf("set %+v: %v, test %v", l, err, found)
					}
					return
				}
				if err != nil || found {
					t.Fatalf("set %+v: %v, test %v", l, err, found)
				}
				for b := l.Start; b <= min(l.End, modelBytes-1); b++ {
					model.ranges[b][l.Owner] = 1
					if l.Exclusive {
						model.ranges[b][l.Owner] = 2
					}
				}
			},
			"unset": func(t *rapid.T) {
				l := drawLock(t, owners)
				table.Unset(7, l.Owner, l.Start, l.End)
				for b := l.Start; b <= min(l.End, modelBytes-1); b++ {
					delete(model.ranges[b], l.Owner)
				}
			},
			"drop": func(t *rapid.T) {
				o := owners.Draw(t, "owner")
				client := rapid.Bool().Draw(t, "client")
				if client {
					table.DropClient(o.Client)
				} else {
					table.DropOwner(7, o)
				}
				gone := func(have Owner) bool { return have == o || client && have.Client == o.Client }
				for b := range model.ranges {
					for have := range model.ranges[b] {
						if gone(have) {
							delete(model.ranges[b], have)
						}
					}
				}
				for have := range model.whole {
					if gone(have) {
						delete(model.whole, have)
					}
				}
			},
			"flock": func(t *rapid.T) {
				o, excl := owners.Draw(t, "owner"), rapid.Bool().Draw(t, "exclusive")
				blocked := false
				for other, x := range model.whole {
					blocked = blocked || other != o && (x || excl)
				}
				err := table.Flock(ctx, 7, o, excl, false)
				delete(model.whole, o)
				if !blocked {
					model.whole[o] = excl
				}
				if blocked != errors.Is(err, ErrWouldBlock) || !blocked && err != nil {
					t.Fatalf("flock: %v, blocked %v", err, blocked)
				}
			},
			"unflock": func(t *rapid.T) {
				o := owners.Draw(t, "owner")
				table.Unflock(7, o)
				delete(model.whole, o)
			},
			"": func(t *rapid.T) { compare(t, table, model) },
		})
	})
}

func drawLock(t *rapid.T, owners *rapid.Generator[Owner]) Lock {
	start := rapid.Uint64Range(0, modelBytes-1).Draw(t, "start")
	end := rapid.Uint64Range(start, modelBytes-1).Draw(t, "end")
	if end == modelBytes-1 {
		end = ^uint64(0)
	}
	return Lock{Owner: owners.Draw(t, "owner"), PID: 5, Start: start, End: end, Exclusive: rapid.Bool().Draw(t, "exclusive")}
}

func compare(t *rapid.T, table *Table, model *byteModel) {
	f := table.inodes[7]
	if f == nil {
		f = &file{}
	}
	got := [modelBytes]map[Owner]int{}
	for b := range got {
		got[b] = map[Owner]int{}
	}
	for i, l := range f.ranges {
		if l.End < l.Start || i > 0 && l.Start < f.ranges[i-1].Start {
			t.Fatalf("ranges %+v", f.ranges)
		}
		for _, m := range f.ranges[i+1:] {
			if m.Owner == l.Owner && (m.Start <= l.End || m.Exclusive == l.Exclusive && m.Start == l.End+1) {
				t.Fatalf("ranges %+v are not joined", f.ranges)
			}
		}
		for b := l.Start; b <= min(l.End, modelBytes-1); b++ {
			got[b][l.Owner] = 1
			if l.Exclusive {
				got[b][l.Owner] = 2
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(model.ranges) || fmt.Sprint(f.whole) != fmt.Sprint(model.whole) {
		t.Fatalf("table %v %v, model %v %v", got, f.whole, model.ranges, model.whole)
	}
	empty := len(f.ranges) == 0 && len(f.whole) == 0
	if _, ok := table.inodes[7]; ok == empty {
		t.Fatalf("the file is in the table: %v, and empty: %v", ok, empty)
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		table := New()
		a, b, c := Owner{1, 1}, Owner{1, 2}, Owner{2, 1}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(table.Set(ctx, 1, Lock{Owner: a, End: 9, Exclusive: true}, true))
		var mu sync.Mutex
		var got []string
		wait := func(name string, o Owner, excl bool) {
			go func() {
				err := table.Set(ctx, 1, Lock{Owner: o, Start: 5, End: ^uint64(0), Exclusive: excl}, true)
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(name, err))
			}()
			synctest.Wait()
		}
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		wait("b", b, false)
		wait("c", c, false)
		check()
		must(table.Set(ctx, 1, Lock{Owner: a, End: 9}, true)) // exclusive to shared lets both in
		check("b<nil>", "c<nil>")
		wait("a", a, true)
		check("b<nil>", "c<nil>")
		table.Unset(1, b, 0, ^uint64(0))
		check("b<nil>", "c<nil>")
		table.DropClient(c.Client)
		check("a<nil>", "b<nil>", "c<nil>")
		cancelled, cancel := context.WithCancelCause(ctx)
		why := errors.New("interrupted")
		done := make(chan error)
		go func() { done <- table.Set(cancelled, 1, Lock{Owner: b, Start: 7, End: 7}, true) }()
		synctest.Wait()
		cancel(why)
		if err := <-done; !errors.Is(err, why) {
			t.Errorf("cancelled: %v", err)
		}
		table.DropOwner(1, a)
		if len(table.inodes) != 0 || len(table.blocks) != 0 {
			t.Errorf("left over: %v %v", table.inodes, table.blocks)
		}
	})
}

// TestDeadlock closes rings of two and of three owners, over different inodes.
func TestDeadlock(t *testing.T) {
	for n := uint64(2); n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			table := New()
			lock := func(i uint64) Lock { return Lock{Owner: Owner{1, i % n}, Exclusive: true} }
			for i := range n {
				if err := table.Set(ctx, i, lock(i), false); err != nil {
					t.Fatal(err)
				}
			}
			done := make(chan error, n)
			for i := range n - 1 {
				go func() { done <- table.Set(ctx, i+1, lock(i), true) }()
			}
			synctest.Wait()
			if err := table.Set(ctx, 0, lock(n-1), true); !errors.Is(err, ErrDeadlock) {
				t.Errorf("ring of %d: %v", n, err)
			}
			if err := table.Set(ctx, 0, lock(n-1), false); !errors.Is(err, ErrWouldBlock) {
				t.Errorf("ring of %d without waiting: %v", n, err)
			}
			table.Unset(n-1, Owner{1, n - 1}, 0, 0)
			for i := n - 1; i > 0; i-- {
				if err := <-done; err != nil {
					t.Error(err)
				}
				table.DropOwner(i-1, Owner{1, i - 1})
			}
		})
	}
}

func TestFlockWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := New()
		a, b := Owner{1, 1}, Owner{1, 2}
		for _, o := range []Owner{a, b} {
			if err := table.Flock(t.Context(), 1, o, false, true); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error, 2)
		for _, o := range []Owner{a, b} { // both upgrade: one gives way
			go func() {
				done <- table.Flock(t.Context(), 1, o, true, true)
				table.Unflock(1, o)
			}()
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if len(table.inodes) != 0 {
			t.Errorf("left over: %v", table.inodes)
		}
	})
}

func TestInvalid(t *testing.T) {
	if err := New().Set(t.Context(), 1, Lock{Start: 2, End: 1}, true); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
