package fence

import (
	"fmt"
	"slices"
	"time"
)

// The decisions of the protocol, as functions of what was read. They touch neither clock nor
// store, so that the model in model_test.go explores these very functions.

// entry is what the rules need of one record.
type entry struct {
	seq   Seq
	kind  kind
	epoch Epoch
	nonce nonce
	prev  hash
	hash  hash
}

// mark names one record of one log: another log has another hash at the same place.
type mark struct {
	seq  Seq
	hash hash
}

// intent is a nonce that was on our disk before its record was sent to place seq.
type intent struct {
	seq   Seq
	nonce nonce
}

// memory is what a data directory remembers of its log.
type memory struct {
	seen    Seq      // the highest sequence number that it saw in the log
	adopted mark     // the newest record that the directory is known to contain; zero: none
	pending []intent // Claims, Ships, Commits, Bases and Releases that may lie above it
}

func (m memory) intended(n nonce) bool {
	return slices.ContainsFunc(m.pending, func(i intent) bool { return i.nonce == n })
}

// highestRun returns the run of consecutive numbers that ends at the highest. seqs is ascending.
func highestRun(seqs []Seq) (low, high Seq) {
	if len(seqs) == 0 {
		return 0, 0
	}
	i := len(seqs) - 1
	for i > 0 && seqs[i-1]+1 == seqs[i] {
		i--
	}
	return seqs[i], seqs[len(seqs)-1]
}

// follows reports whether the record with the hash h is the one that next names. One that is not is
// stray: it and what lies below it are no part of the log.
func follows(h hash, next entry) bool { return next.prev == h }

// rolledBack returns an error if the head lies below what the directory saw.
func rolledBack(head, seen Seq) error {
	if head >= seen {
		return nil
	}
	return fmt.Errorf("%w: its newest record is %d, and this directory saw %d", ErrRolledBack, head, seen)
}

// localWins reports whether the local directory holds all that the log says, so that it may be
// used as it stands: adopted is in the run with that very hash, and every Claim, Ship, Commit, Base
// and Release above it carries a nonce that this disk held before the record was sent. below is the
// record under the run's first; only its hash is known.
func localWins(below mark, run []entry, m memory) bool {
	if m.adopted.seq == 0 {
		return false
	}
	found := below == m.adopted
	for _, e := range run {
		if found && e.kind.substantive() && !m.intended(e.nonce) {
			return false
		}
		if e.seq == m.adopted.seq {
			found = e.hash == m.adopted.hash
		}
	}
	return found
}

// diverged reports whether the log holds another record in the place of the newest one that the local
// directory is known to contain. Records are never rewritten, so that this is another log.
func diverged(below mark, run []entry, m memory) bool {
	at := m.adopted
	if at.seq == 0 {
		return false
	}
	if at.seq == below.seq {
		return at.hash != below.hash
	}
	return slices.ContainsFunc(run, func(e entry) bool { return e.seq == at.seq && e.hash != at.hash })
}

// mayClaimAtOnce reports whether a claim may go out without a wait: after a Release, or when the
// last owner is we. claimant is the identity in the newest Claim, owner the epoch that it began.
func mayClaimAtOnce(run []entry, m memory, owner Epoch, claimant, me Identity) bool {
	if len(run) == 0 || run[len(run)-1].kind == kindRelease {
		return true
	}
	if !sameIdentity(claimant, me) {
		return false
	}
	for _, e := range slices.Backward(run) {
		if e.epoch != owner {
			return false
		}
		if m.adopted == (mark{e.seq, e.hash}) {
			return true // ours, and so is what lies below it
		}
		if e.kind.substantive() {
			return m.intended(e.nonce)
		}
	}
	return false
}

// sameIdentity reports whether the process that b describes is a later start of a's: the same
// directory, on the same boot, under the same lock file.
func sameIdentity(a, b Identity) bool { return a.Local && b.Local && a == b }

// look is the last time at which we know that the log's head was what we took it for: an append of
// ours that won its slot, or a read of the head. Both clocks are read before the request is sent,
// but for date, which comes with the answer.
type look struct {
	boot time.Duration // CLOCK_BOOTTIME
	date time.Time     // the store's clock; zero when it did not say
}

// needsCheck reports whether an append answered at now counts only after a look at the record
// before it and at those above it: more than half a lease has passed, by the larger of the two
// clocks, so that the slot which it won may be one that was trimmed.
func needsCheck(last, now look, lease time.Duration) bool {
	if last.date.IsZero() || now.date.IsZero() {
		return true
	}
	return max(now.boot-last.boot, now.date.Sub(last.date)) > lease/2
}

// checkPasses says whether an append that needed a check counts. below is the hash of the record
// before it, found says whether there is one, and above whether any record is above it.
func checkPasses(seq Seq, prev hash, below hash, found, above bool) bool {
	if above {
		return false
	}
	if seq == 1 {
		return true
	}
	return found && below == prev
}

// leaseHolds reports whether requests may be answered at now: the last append that succeeded was
// started less than one lease ago.
func leaseHolds(started, now, lease time.Duration) bool { return now-started < lease }

// waitOver reports whether a claimant that has seen the head unmoved since then may claim: after
// the owner's lease and a tenth more.
func waitOver(since, now, lease time.Duration) bool { return now-since >= lease+lease/10 }

// trimLimit returns the highest record that may be deleted: it lies below a Base, and no Ship that
// is still needed lies at or below it.
func trimLimit(asOf Seq, ships []ShipRef) Seq {
	if len(ships) > 0 && ships[0].Seq <= asOf {
		return ships[0].Seq - 1
	}
	return asOf
}

// remember returns what the directory keeps once it has read a log whose head is head: what no
// later decision can turn on is dropped, so that claims which never got far do not pile up.
// A directory that wins has everything up to the head, which is what adopting it says. One that
// lost never adopts; of its nonces only the newest record's, which allows a claim without a wait,
// and those still on their way matter.
func remember(below mark, run []entry, m memory) memory {
	if len(run) == 0 {
		m.pending = slices.Clone(m.pending)
		return m
	}
	head := run[len(run)-1]
	out := memory{seen: max(m.seen, head.seq), adopted: m.adopted}
	newest := nonce{}
	if i := newestSubstantive(run); i >= 0 {
		newest = run[i].nonce
	}
	if localWins(below, run, m) {
		out.adopted = mark{head.seq, head.hash}
	}
	for _, p := range m.pending {
		if p.seq > head.seq || p.nonce == newest {
			out.pending = append(out.pending, p)
		}
	}
	return out
}

func newestSubstantive(run []entry) int {
	for i, e := range slices.Backward(run) {
		if e.kind.substantive() {
			return i
		}
	}
	return -1
}
