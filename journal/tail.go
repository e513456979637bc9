package journal

// tailMost bounds the bytes of buffers that hold durable records for Batches.
const tailMost = 4 << 20

// tail is the newest durable runs, in LSN order without a gap. Guarded by Journal.mu.
type tail struct {
	runs  []*run
	bytes int
}

// keepTailLocked puts a run that has become durable at the tail's end.
func (j *Journal) keepTailLocked(r *run) {
	r.refs = 1
	j.tail.runs = append(j.tail.runs, r)
	j.tail.bytes += cap(r.raw)
	n := 0
	for j.tail.bytes > tailMost {
		old := j.tail.runs[n]
		j.tail.bytes -= cap(old.raw)
		j.unrefLocked(old)
		n++
	}
	if n > 0 {
		k := copy(j.tail.runs, j.tail.runs[n:])
		clear(j.tail.runs[k:])
		j.tail.runs = j.tail.runs[:k]
	}
}

func (j *Journal) unrefLocked(r *run) {
	if r.refs--; r.refs == 0 {
		j.spare.put(r)
	}
}

// pinLocked returns the tail's runs from the one that holds from on, as many as hold about most
// bytes. It returns none if the tail begins later. The caller unpins them.
func (j *Journal) pinLocked(from LSN, most int) (runs []*run) {
	if len(j.tail.runs) == 0 || j.tail.runs[0].first > from {
		return nil
	}
	for _, r := range j.tail.runs {
		if r.last < from {
			continue
		}
		r.refs++
		runs = append(runs, r)
		if most -= len(r.raw); most <= 0 {
			break
		}
	}
	return runs
}
