package fence

import (
	"os"
	"strings"
	"testing"
	"time"
)

const modelMost = 12_000_000 // states of one configuration

// TestModel explores every interleaving of each configuration to its end. The larger ones run when
// ZEROFS_MODEL is "full".
func TestModel(t *testing.T) {
	skipModel(t)
	for _, cfg := range modelConfigs() {
		t.Run(cfg.name, func(t *testing.T) {
			if cfg.large && os.Getenv("ZEROFS_MODEL") != "full" {
				t.Skip("large: set ZEROFS_MODEL=full")
			}
			t.Parallel()
			began := time.Now()
			r := cfg.explore(modelMost, false)
			t.Logf("%d states, %d steps, %v", r.states, r.steps, time.Since(began).Round(time.Millisecond))
			if r.wrong != "" {
				t.Fatal(cfg.explore(modelMost, true))
			}
		})
	}
}

func skipModel(t *testing.T) {
	if raced || testing.Short() {
		t.Skip("the model takes long, and is no matter of races")
	}
}

func modelConfigs() []mconfig {
	real := realRules()
	return []mconfig{
		{name: "trim", maxSeq: 3, maxEpoch: 3, bases: true, trim: true, rules: real, budget: mbudget{losses: 1}},
		{name: "trim/four", maxSeq: 4, maxEpoch: 3, bases: true, trim: true, mute: true, rules: real, large: true},
		{name: "trim/suspend", maxSeq: 3, maxEpoch: 3, bases: true, trim: true, dates: true, rules: real, budget: mbudget{freezes: 1}},
		{name: "crash", maxSeq: 4, maxEpoch: 3, lineage: true, ships: true, mute: true, rules: real, budget: mbudget{crashes: 1}},
		{name: "crash/late", maxSeq: 4, maxEpoch: 3, lineage: true, ships: true, mute: true, rules: real, budget: mbudget{crashes: 2, lates: 1}, large: true},
		{name: "crash/renew", maxSeq: 3, maxEpoch: 3, lineage: true, ships: true, rules: real, budget: mbudget{crashes: 1, lates: 1, losses: 1}, large: true},
		{name: "crash/base", maxSeq: 3, maxEpoch: 3, lineage: true, ships: true, bases: true, trim: true, mute: true, rules: real, budget: mbudget{crashes: 1}, large: true},
		{name: "release", maxSeq: 4, maxEpoch: 3, lineage: true, ships: true, release: true, mute: true, rules: real, budget: mbudget{losses: 1}, large: true},
		{name: "clone", maxSeq: 4, maxEpoch: 3, lineage: true, ships: true, mute: true, rules: real, budget: mbudget{crashes: 1, lates: 1, clones: 1}, large: true},
		{name: "clone/renew", maxSeq: 3, maxEpoch: 3, lineage: true, ships: true, rules: real, budget: mbudget{crashes: 1, clones: 1}},
		{name: "roll-back", maxSeq: 4, maxEpoch: 3, lineage: true, ships: true, mute: true, rules: real, budget: mbudget{crashes: 1, rollbacks: 1}, large: true},
		{name: "roll-back/renew", maxSeq: 3, maxEpoch: 3, lineage: true, ships: true, rules: real, budget: mbudget{crashes: 1, rollbacks: 1}, large: true},
	}
}

// TestModelNotices weakens one rule at a time: the model must find what that breaks.
func TestModelNotices(t *testing.T) {
	skipModel(t)
	trim := mconfig{maxSeq: 4, maxEpoch: 3, bases: true, trim: true, mute: true}
	lineage := mconfig{maxSeq: 3, maxEpoch: 3, lineage: true, ships: true, budget: mbudget{crashes: 1, lates: 1, losses: 1}}
	four := lineage
	four.maxSeq, four.mute, four.budget = 4, true, mbudget{crashes: 1}
	with := func(c mconfig, b mbudget) mconfig { c.budget = b; return c }
	for _, c := range []struct {
		name, want string
		cfg        mconfig
		weaken     func(r *mrules)
	}{
		{"no check of late appends", "is acknowledged and is not in the log", trim, func(r *mrules) {
			r.needsCheck = func(look, look, time.Duration) bool { return false }
		}},
		{"the check does not look above", "is acknowledged and is not in the log", trim, func(r *mrules) {
			r.checkPasses = func(seq Seq, prev, below hash, found, _ bool) bool {
				return checkPasses(seq, prev, below, found, false)
			}
		}},
		{"the check is skipped without the store's dates", "is acknowledged and is not in the log",
			func() mconfig { c := with(trim, mbudget{freezes: 1}); c.dates = true; return c }(), func(r *mrules) {
				r.needsCheck = func(last, now look, lease time.Duration) bool { return now.boot-last.boot > lease/2 }
			}},
		{"trimming reaches above the base", "cannot read the log", func() mconfig { c := trim; c.mute = false; return c }(), func(r *mrules) {
			r.trimUnderBase = false
		}},
		{"claimants wait for less than a lease", "both processes answer", lineage, func(r *mrules) {
			r.waitOver = func(time.Duration, time.Duration, time.Duration) bool { return true }
		}},
		{"the lease runs from nowhere", "both processes answer", lineage, func(r *mrules) {
			r.leaseHolds = func(time.Duration, time.Duration, time.Duration) bool { return true }
		}},
		{"anybody claims at once", "both processes answer", lineage, func(r *mrules) {
			r.mayClaimAtOnce = func([]entry, memory, Epoch, Identity, Identity) bool { return true }
		}},
		{"nonces alone allow a claim at once", "both processes answer", with(lineage, mbudget{crashes: 1, clones: 1}), func(r *mrules) {
			r.mayClaimAtOnce = func(run []entry, m memory, owner Epoch, claimant, _ Identity) bool {
				return mayClaimAtOnce(run, m, owner, claimant, claimant)
			}
		}},
		{"adopted alone lets the directory win", "wins and lacks", four, func(r *mrules) {
			r.localWins = func(below mark, run []entry, m memory) bool {
				for _, e := range run {
					if m.adopted == (mark{e.seq, e.hash}) {
						return true
					}
				}
				return false
			}
		}},
		{"adopted is found by number", "wins and lacks", func() mconfig {
			c := with(lineage, mbudget{crashes: 1, rollbacks: 1})
			c.maxSeq, c.mute = 4, true
			return c
		}(), func(r *mrules) {
			r.localWins = func(below mark, run []entry, m memory) bool {
				for _, e := range run {
					if e.seq == m.adopted.seq {
						m.adopted.hash = e.hash
					}
				}
				return localWins(below, run, m)
			}
			r.keepSeen = false
		}},
		{"any record of our epoch is ours", "both processes answer", with(lineage, mbudget{crashes: 1, lates: 1}), func(r *mrules) {
			r.ours = func(got, sent mrec) bool { return got.epoch == sent.epoch }
		}},
		{"an owner answers until its release is in the log", "both processes answer", func() mconfig {
			c := with(lineage, mbudget{losses: 1})
			c.release = true
			return c
		}(), func(r *mrules) { r.stopsFirst = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.cfg.rules = realRules()
			c.weaken(&c.cfg.rules)
			r := c.cfg.explore(modelMost, testing.Verbose())
			t.Log(r)
			if r.wrong == "" || !strings.Contains(r.wrong, c.want) {
				t.Fatalf("found %q after %d states, want %q", r.wrong, r.states, c.want)
			}
		})
	}
}
