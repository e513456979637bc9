package volume

import (
	"context"
	"fmt"

	"zerofs/journal"
)

// replay brings the tree from what its table files hold to the last change that the log or our
// journal has, then lets the journal begin. Ships come first, wherever they stand relative to the
// Commit; the journal goes on from there. A gap is refused: what follows it builds on what is missing.
func (v *Volume) replay(ctx context.Context) error {
	done := v.opts.waiting("replay")
	defer done()
	inTree := v.engine.Applied()
	if err := v.replayShips(ctx); err != nil {
		return err
	}
	covered := journal.LSN(v.owner.Covered())
	if err := v.replayJournal(ctx, covered); err != nil {
		return err
	}
	applied := v.engine.Applied()
	if applied < covered {
		return fmt.Errorf("%w: the log covers LSN %d, replay ended at %d", ErrGap, covered, applied)
	}
	_, last := v.journal.Held()
	if err := v.journal.Start(v.owner.Epoch(), applied); err != nil {
		return err
	}
	if err := v.engine.Start(ctx); err != nil {
		return err
	}
	// What the tree holds beyond the journal cannot be shipped: the first round is a Commit.
	v.loops.commitFirst = inTree > last && inTree > covered
	v.log.Info("replayed", "tree_lsn", inTree, "covered_lsn", covered, "lsn", applied)
	return nil
}

func (v *Volume) replayShips(ctx context.Context) error {
	for _, s := range v.owner.State().Ships {
		applied := v.engine.Applied()
		if journal.LSN(s.Last) <= applied {
			continue
		}
		if journal.LSN(s.First) > applied+1 {
			return fmt.Errorf("%w: Ship %d begins at LSN %d, the tree ends at %d", ErrGap, s.Seq, s.First, applied)
		}
		body, err := v.owner.ShipBody(ctx, s)
		if err != nil {
			return err
		}
		if err := journal.DecodeBatches(body, v.apply); err != nil {
			return fmt.Errorf("volume: replay Ship %d: %w", s.Seq, err)
		}
		if got := v.engine.Applied(); got < journal.LSN(s.Last) {
			return fmt.Errorf("%w: Ship %d ends at LSN %d, not at %d", ErrGap, s.Seq, got, s.Last)
		}
	}
	return nil
}

func (v *Volume) replayJournal(ctx context.Context, covered journal.LSN) error {
	first, last := v.journal.Held()
	from := v.engine.Applied() + 1
	if last < from {
		return nil
	}
	if first > from {
		return fmt.Errorf("%w: the tree ends at LSN %d, the journal begins at %d", ErrGap, from-1, first)
	}
	return v.journal.Replay(ctx, from, covered, func(lsn journal.LSN, payload []byte) error {
		if lsn > covered {
			v.metered.appended.Add(int64(len(payload))) // what the first round finds unshipped
		}
		return v.apply(lsn, payload)
	})
}

// apply hands one record to the engine, unless the tree has it.
func (v *Volume) apply(lsn journal.LSN, payload []byte) error {
	if lsn <= v.engine.Applied() {
		return nil
	}
	return v.engine.Replay(lsn, payload)
}
