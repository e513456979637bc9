package journal

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"zerofs/tiers/disk"
)

// Sizes in bytes.
const (
	segmentMax  = 64 << 20
	segmentMin  = 64 << 10
	segmentsMin = 4 // of a ring: one written, one prepared, and two to hold what is not released

	firstRun = disk.Align // offset of a segment's first run
)

const segmentSuffix = ".seg"

// segmentSize returns the size in bytes of each segment of a ring of the given size.
func segmentSize(ring int64) (int64, error) {
	if ring < segmentsMin*segmentMin {
		return 0, fmt.Errorf("journal: size of %d bytes is below the least of %d", ring, segmentsMin*segmentMin)
	}
	return min(max(ring/16, segmentMin), segmentMax) &^ (disk.Align - 1), nil
}

func segmentName(index int) string { return fmt.Sprintf("%06d%s", index, segmentSuffix) }

// parseSegmentName returns the index in a segment's file name.
func parseSegmentName(name string) (int, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) < 6 {
		return 0, false
	}
	i, err := strconv.Atoi(digits)
	if err != nil || i < 0 || segmentName(i) != name {
		return 0, false
	}
	return i, true
}

// segment is one file of the ring. Fields below ready are guarded by Journal.mu once it started.
type segment struct {
	index int
	path  string
	file  disk.File

	hdr   segmentHeader // of its present use
	valid bool          // hdr was read or written

	ready int64 // bytes that exist and may be written; grows while the segment is zero-filled
	stuck bool  // the disk was full: ready will not grow now

	off    int64 // where the next run goes
	first  LSN   // first record of its present use; 0 while there is none
	last   LSN   // last one that counts; 0 while the segment is written
	places places

	readers int  // of Batches; the file stays open while there are any
	dropped bool // its file is removed; the last reader closes it
}

// place says where a run begins that holds lsn or a later one.
type place struct {
	lsn LSN
	off int64
}

// placeGap is the least distance in bytes between two places of one segment.
const placeGap = 64 << 10

// places is a sparse index of a segment, ascending.
type places []place

// add remembers that the run at off begins with lsn, unless another is near.
func (p places) add(lsn LSN, off int64) places {
	i := sort.Search(len(p), func(i int) bool { return p[i].off >= off })
	if i > 0 && off-p[i-1].off < placeGap || i < len(p) && p[i].off-off < placeGap {
		return p
	}
	p = append(p, place{})
	copy(p[i+1:], p[i:])
	p[i] = place{lsn, off}
	return p
}

// find returns the offset to search lsn from.
func (p places) find(lsn LSN) int64 {
	i := sort.Search(len(p), func(i int) bool { return p[i].lsn > lsn })
	if i == 0 {
		return firstRun
	}
	return p[i-1].off
}
