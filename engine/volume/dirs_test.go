package volume

import (
	"errors"
	"testing"
	"time"

	"zerofs/tiers/disk/disktest"
	"zerofs/tiers/seal"
)

// TestPairSurvivesEveryCrash cuts the power at each operation that makes the two directories: the
// next open finds them, or makes them, and never refuses.
func TestPairSurvivesEveryCrash(t *testing.T) {
	for k := int64(1); ; k++ {
		d := disktest.New(disktest.Options{OnOp: disktest.CrashAt(k), Now: time.Now})
		ds, err := openDirs(d, "/a/nvme", "/b/journal", worldVolume.ID, newRandom(1))
		if !d.Crashed() {
			if err != nil {
				t.Fatal(err)
			}
			ds.close()
			return
		}
		for seed := range uint64(20) {
			after := d.CrashClone(seed, int(seed*5))
			again, err := openDirs(after, "/a/nvme", "/b/journal", worldVolume.ID, newRandom(2))
			if err != nil {
				t.Fatalf("crash at %d, seed %d: %v", k, seed, err)
			}
			if err == nil && ds != nil && again.id != ds.id {
				t.Fatalf("crash at %d, seed %d: another pair", k, seed)
			}
			again.close()
		}
	}
}

func TestDirectoriesThatDoNotBelongTogether(t *testing.T) {
	d := disktest.New(disktest.Options{Now: time.Now})
	open := func(nvme, journal string, v seal.VolumeID) error {
		ds, err := openDirs(d, nvme, journal, v, newRandom(uint64(len(nvme)+7*len(journal))))
		if err == nil {
			ds.close()
		}
		return err
	}
	for _, err := range []error{open("/n1", "/j1", worldVolume.ID), open("/n22", "/j22", worldVolume.ID)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		what, nvme, journal string
		volume              seal.VolumeID
		want                error
	}{
		{"the same again", "/n1", "/j1", worldVolume.ID, nil},
		{"another's journal", "/n1", "/j22", worldVolume.ID, ErrDirs},
		{"no journal", "/n1", "/new", worldVolume.ID, ErrDirs},
		{"another volume", "/n1", "/j1", seal.VolumeID{8}, ErrDirs},
	} {
		if err := open(c.nvme, c.journal, c.volume); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	if err := writeFile(d, "/j1/pair", []byte("zerofs-pair 2 00 00\n")); err != nil {
		t.Fatal(err)
	}
	if err := open("/n1", "/j1", worldVolume.ID); !errors.Is(err, ErrDirs) {
		t.Errorf("a newer pair file: %v", err)
	}
}

func TestTwoProcessesOneDirectory(t *testing.T) {
	d := disktest.New(disktest.Options{Now: time.Now})
	ds, err := openDirs(d, "/n", "/j", worldVolume.ID, newRandom(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openDirs(d, "/n", "/j", worldVolume.ID, newRandom(1)); !errors.Is(err, ErrInUse) {
		t.Errorf("both: %v", err)
	}
	if _, err := openDirs(d, "/other", "/j", worldVolume.ID, newRandom(1)); !errors.Is(err, ErrInUse) {
		t.Errorf("journal alone: %v", err)
	}
	ds.close()
	if ds, err = openDirs(d, "/n", "/j", worldVolume.ID, newRandom(1)); err != nil {
		t.Fatal(err)
	}
	ds.close()
}

func FuzzPair(f *testing.F) {
	f.Add(pairID{[16]byte{1}, seal.VolumeID{2}}.text())
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePair(text)
		if err != nil {
			return
		}
		q, err := parsePair(p.text())
		if err != nil || p != q {
			t.Fatalf("%v, then %v: %v", p, q, err)
		}
	})
}

func TestLag(t *testing.T) {
	var m lagMeter
	at := func(s int) time.Duration { return time.Duration(s) * time.Second }
	for _, c := range []struct {
		last, covered uint64
		now, age      int
	}{
		{0, 0, 1, 0}, {5, 0, 2, 0}, {5, 0, 4, 2}, {9, 0, 5, 3}, {12, 5, 8, 3}, {12, 11, 9, 1}, {12, 12, 10, 0}, {13, 12, 11, 0},
	} {
		m.look(lsn(c.last), lsn(c.covered), at(c.now))
		if got := m.age(at(c.now)); got != at(c.age) {
			t.Errorf("last %d, covered %d at %d s: lag %v, want %d s", c.last, c.covered, c.now, got, c.age)
		}
	}
	for i := range 3 * lagSamples {
		m.look(lsn(uint64(14+i)), 12, at(20+i))
	}
	if n := len(m.samples); n > lagSamples {
		t.Errorf("%d samples", n)
	}
	if got := m.age(at(20 + 3*lagSamples)); got != at(9+3*lagSamples) {
		t.Errorf("after a long outage: %v", got)
	}
}
