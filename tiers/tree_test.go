package tiers_test

import (
	"testing"

	"zerofs/tiers/object/objecttest"
)

func TestTreeLivesOnBothHosts(t *testing.T) {
	h := newHost(objecttest.NewBucket(nil), newFakeLog())
	h.mustOpen(t, false)
	tr := mustTree(t, h, 1)
	for range 10 {
		tr.steps(t, 60)
		tr.mustWriteBack(t)
	}
	tr.mustFlush(t)
	tr.mustWriteBack(t)
	if h.fs.Changed() {
		tr.mustWriteBack(t) // a compaction ended meanwhile
	}
	want := tr.lsn
	tr.mustCheck(t, want)
	tr.mustClose(t)

	h.mustOpen(t, false)
	tr = mustTree(t, h, 1)
	tr.mustCheck(t, want)
	tr.mustClose(t)

	o := h.other()
	o.mustOpen(t, true)
	tr = mustTree(t, o, 1)
	tr.mustCheck(t, want)
	tr.steps(t, 300)
	tr.mustFlush(t)
	tr.mustWriteBack(t)
	tr.mustCheck(t, tr.lsn)
	tr.mustClose(t)
}
