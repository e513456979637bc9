package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"zerofs/tiers/object"
	"zerofs/tiers/object/objecttest"
)

var next = []byte("battery staple")

func opens(store object.Store, password []byte, want *Volume) bool {
	v, err := OpenVolume(ctx, store, password, VolumeOptions{})
	return err == nil && same(v, want)
}

func TestChangePassword(t *testing.T) {
	store := newBucket()
	made := create(t, store)
	if err := ChangePassword(ctx, store, pass, next, rand.Reader); err != nil {
		t.Fatal(err)
	}
	if opens(store, pass, made) || !opens(store, next, made) {
		t.Error("the old one opens, or the new one does not")
	}
	if got := fmt.Sprint(keys(t, store)); got != "[keyring/0000000000000002 volume]" {
		t.Errorf("objects %s", got)
	}
	// Again is done already.
	if err := ChangePassword(ctx, store, pass, next, rand.Reader); err != nil {
		t.Error(err)
	}
	if err := ChangePassword(ctx, store, pass, []byte("third"), rand.Reader); !errors.Is(err, ErrPassword) {
		t.Errorf("from a wrong one: %v", err)
	}
	for _, p := range [][2]string{{"", "x"}, {string(next), ""}} {
		if err := ChangePassword(ctx, store, []byte(p[0]), []byte(p[1]), rand.Reader); !errors.Is(err, ErrPassword) {
			t.Errorf("from %q to %q: %v", p[0], p[1], err)
		}
	}
	if err := ChangePassword(ctx, newBucket(), pass, next, rand.Reader); !errors.Is(err, ErrNoVolume) {
		t.Errorf("no volume: %v", err)
	}
	if !opens(store, next, made) {
		t.Error("the new one opens no more")
	}
}

// Whatever request a change dies at, the volume opens with the old password or the new one, and
// the same change again ends with the new one alone.
func TestChangePasswordCrash(t *testing.T) {
	for _, fault := range []objecttest.Fault{objecttest.Fail, objecttest.Lose} {
		for k := 1; ; k++ {
			b := newBucket().Bucket()
			made := create(t, b.Connect(1))
			c := b.Connect(2)
			c.SetPlan(failFrom(k, fault))
			err := ChangePassword(ctx, c, pass, next, rand.Reader)
			after := b.Connect(3)
			if err == nil {
				if !opens(after, next, made) {
					t.Fatal("does not open")
				}
				break
			}
			if !opens(after, pass, made) && !opens(after, next, made) {
				t.Fatalf("request %d: locked out", k)
			}
			if err := ChangePassword(ctx, after, pass, next, rand.Reader); err != nil {
				t.Fatalf("request %d, again: %v", k, err)
			}
			if opens(after, pass, made) || !opens(after, next, made) {
				t.Fatalf("request %d: the old one opens, or the new one does not", k)
			}
		}
	}
}

// Of changes at once from one password, the winner's opens; nobody is locked out, and who was told of
// success is right unless a later change took over from there.
func TestChangePasswordRace(t *testing.T) {
	for round := range 100 {
		b := newBucket().Bucket()
		made := create(t, b.Connect(1))
		var good [4]bool
		var wg sync.WaitGroup
		for i := range good {
			wg.Go(func() {
				err := ChangePassword(ctx, b.Connect(uint64(i)), pass, fmt.Appendf(nil, "new %d", i), rand.Reader)
				if good[i] = err == nil; err != nil && !errors.Is(err, ErrPassword) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range good {
			if opens(b.Connect(9), fmt.Appendf(nil, "new %d", i), made) != good[i] {
				t.Fatalf("round %d: %d was told %t", round, i, good[i])
			}
		}
		if !slices.Contains(good[:], true) || opens(b.Connect(9), pass, made) {
			t.Fatalf("round %d: %v", round, good)
		}
	}
}

// Between the look at the keyring and the put, others change the password twice, so that the slot
// is free again.
func TestChangePasswordReopenedSlot(t *testing.T) {
	b := newBucket().Bucket()
	made := create(t, b.Connect(1))
	slow := b.Connect(2)
	done := false
	slow.SetPlan(func(r objecttest.Request) objecttest.Fault {
		if r.Op == object.OpPut && !done {
			done = true
			for _, p := range [][2][]byte{{pass, []byte("a")}, {[]byte("a"), []byte("b")}} {
				if err := ChangePassword(ctx, b.Connect(3), p[0], p[1], rand.Reader); err != nil {
					t.Error(err)
				}
			}
		}
		return objecttest.Deliver
	})
	if err := ChangePassword(ctx, slow, pass, next, rand.Reader); !errors.Is(err, ErrPassword) {
		t.Errorf("overtaken: %v", err)
	}
	if !opens(b.Connect(4), []byte("b"), made) || opens(b.Connect(4), next, made) {
		t.Error("the later change does not count")
	}
}
