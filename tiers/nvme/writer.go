package nvme

import (
	"fmt"
	"sync"

	"zerofs/tiers/disk"
	"zerofs/tiers/seal"
)

// Writer writes one table file, sealed, through aligned buffers with direct I/O. It collects
// plaintext in a block where each frame will be; a goroutine of its own seals full blocks in
// place and writes them, while the next one fills. Not safe for concurrent use.
type Writer struct {
	tier *Tier
	id   seal.FileID
	seal *seal.File
	size int64 // plaintext bytes

	block *block // being filled; nil before the first byte
	next  int64  // offset in the file of the block after it
	frame uint64 // index of the block's next frame

	file     disk.File // made by the first block
	reserved int64     // bytes counted as dirty

	work    chan *block // to the goroutine; nil while there is none
	running sync.WaitGroup
	failed  chan struct{} // closed once err is set
	err     error

	stop chan struct{} // closed by Abort
	done bool          // finished or aborted
}

// block is a run of frames on its way to the disk.
type block struct {
	buf   []byte
	off   int64  // in the file
	start int    // of the first frame in buf: after the header, in the first block
	first uint64 // index of the first frame
	n     int    // frames begun
	fill  int    // plaintext bytes in the newest of them
}

// frameAt returns the offset in buf of frame i of the block.
func (b *block) frameAt(i int) int { return b.start + i*seal.FrameSize }

// full reports whether neither the newest frame nor the buffer takes more.
func (b *block) full() bool {
	return b.fill == seal.FrameData && b.frameAt(b.n+1) > len(b.buf)
}

// seal seals the block's frames in place and returns its length in the file. The newest frame of the
// last block is the file's last.
func (b *block) seal(f *seal.File, last bool) int {
	length := b.start
	for i := range b.n {
		n, newest := seal.FrameData, i == b.n-1
		if newest {
			n = b.fill
		}
		at := b.frameAt(i)
		f.Seal(b.buf[at:at], b.buf[at:at+n], b.first+uint64(i), last && newest)
		length = at + n + seal.Overhead
	}
	return length
}

// Create begins a local table file. It counts against the budget as dirty until MarkClean. The
// file is made with its first bytes; a full disk makes Write and Finish wait.
func (t *Tier) Create(id seal.FileID) (*Writer, error) {
	if t.ended() {
		return nil, fmt.Errorf("nvme: create table %v: %w", id, ErrClosed)
	}
	sealed, err := t.key.File(id)
	if err != nil {
		return nil, fmt.Errorf("nvme: create table %v: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, written := t.writing[id]
	if written || t.local[id] != nil {
		return nil, fmt.Errorf("nvme: create table %v: it exists", id)
	}
	t.writing[id] = struct{}{}
	return &Writer{tier: t, id: id, seal: sealed, failed: make(chan struct{}), stop: make(chan struct{})}, nil
}

// Size returns the plaintext bytes written so far.
func (w *Writer) Size() int64 { return w.size }

// Write appends plaintext. ENOSPC on the disk makes it wait, paced, and not fail. An error is
// final: nothing but Abort helps.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, fmt.Errorf("nvme: write table %v: %w", w.id, ErrClosed)
	}
	done := 0
	for done < len(p) {
		if err := w.room(); err != nil {
			return done, fmt.Errorf("nvme: write table %v: %w", w.id, err)
		}
		b := w.block
		at := b.frameAt(b.n-1) + b.fill
		n := copy(b.buf[at:at+seal.FrameData-b.fill], p[done:])
		b.fill += n
		done += n
		w.size += int64(n)
	}
	return done, nil
}

// room makes the newest frame of the block one that takes more. A full frame waits for the next
// byte before another begins, since the last one is sealed as such.
func (w *Writer) room() error {
	if w.block != nil && w.block.full() {
		if err := w.submit(); err != nil {
			return err
		}
	}
	if w.block == nil {
		w.block = w.newBlock()
		return nil
	}
	if w.block.fill == seal.FrameData {
		w.block.n++
		w.block.fill = 0
	}
	return nil
}

func (w *Writer) newBlock() *block {
	b := &block{buf: disk.GetBuf(blockSize), off: w.next, first: w.frame, n: 1}
	if w.next == 0 {
		b.start = len(w.seal.AppendHeader(b.buf[:0]))
	}
	return b
}

// submit hands the full block to the goroutine.
func (w *Writer) submit() error {
	select {
	case <-w.failed:
		return w.err
	default:
	}
	if w.work == nil {
		w.work = make(chan *block, 1)
		w.running.Go(w.writeBlocks)
	}
	b := w.block
	w.block = nil
	w.next = b.off + int64(b.frameAt(b.n))
	w.frame = b.first + uint64(b.n)
	select {
	case w.work <- b:
		return nil
	case <-w.failed:
		disk.PutBuf(b.buf)
		return w.err
	}
}

// writeBlocks seals and writes blocks until the channel closes; after an error it only drains it.
func (w *Writer) writeBlocks() {
	for b := range w.work {
		select {
		case <-w.failed:
		default:
			if _, err := w.writeBlock(b, false); err != nil {
				w.err = err
				close(w.failed)
			}
		}
		disk.PutBuf(b.buf)
	}
}

// writeBlock seals and writes one block and returns where the file ends with it.
func (w *Writer) writeBlock(b *block, last bool) (int64, error) {
	n := b.seal(w.seal, last)
	padded := int(onDisk(int64(n)))
	clear(b.buf[n:padded])
	w.tier.budget.addDirty(int64(padded))
	w.reserved += int64(padded)
	w.tier.makeRoom()
	path := w.tier.path(w.id, newSuffix)
	err := w.tier.untilSpace(w.stop, path, func() error {
		if w.file == nil {
			file, err := w.tier.disk.OpenDirect(path, true)
			if err != nil {
				return err
			}
			w.file = file
		}
		_, err := w.file.WriteAt(b.buf[:padded], b.off)
		return err
	})
	return b.off + int64(n), err
}

// drain ends the goroutine and returns its error.
func (w *Writer) drain() error {
	if w.work != nil {
		close(w.work)
		w.running.Wait()
		w.work = nil
	}
	return w.err
}

// Finish seals the last frame and makes file and name durable. A full disk makes it wait, unless
// it is a sync that fails for it. After an error the file is gone.
func (w *Writer) Finish() error {
	if w.done {
		return fmt.Errorf("nvme: finish table %v: %w", w.id, ErrClosed)
	}
	if err := w.finish(); err != nil {
		w.Abort()
		return fmt.Errorf("nvme: finish table %v: %w", w.id, err)
	}
	return nil
}

func (w *Writer) finish() error {
	if err := w.drain(); err != nil {
		return err
	}
	if w.block == nil {
		w.block = w.newBlock()
	}
	end, err := w.writeBlock(w.block, true)
	if err != nil {
		return err
	}
	disk.PutBuf(w.block.buf)
	w.block = nil
	if err := w.makeDurable(end); err != nil {
		return err
	}
	w.done = true
	w.publish(end)
	return nil
}

// makeDurable cuts the file to its size, syncs it, and gives it its final name. A sync that failed
// is never tried again, on a full disk neither: what it left out the next one may not know of.
func (w *Writer) makeDurable(end int64) error {
	t := w.tier
	from, to := t.path(w.id, newSuffix), t.path(w.id, finalSuffix)
	if err := t.untilSpace(w.stop, from, func() error { return w.file.Truncate(end) }); err != nil {
		return err
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	if err := t.untilSpace(w.stop, from, func() error { return t.disk.Rename(from, to) }); err != nil {
		return err
	}
	return t.disk.SyncDir(t.tables)
}

// publish makes the finished file a dirty local copy, which keeps the open file.
func (w *Writer) publish(stored int64) {
	t := w.tier
	tb := t.newTable(w.id, stored)
	tb.file.Store(&tableFile{File: w.file, seal: w.seal})
	t.budget.addDirty(onDisk(stored) - w.reserved)
	t.mu.Lock()
	t.uses++
	tb.used = t.uses
	delete(t.writing, w.id)
	t.local[w.id] = tb
	t.mu.Unlock()
	if t.opened.Add(1) > openMax {
		t.closeIdle(openMax * 3 / 4)
	}
	if t.ended() {
		t.closeIdle(0)
	}
}

// Abort removes the file. After Finish or Abort it does nothing.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	close(w.stop)
	_ = w.drain() // why the file is given up does not matter any more
	if w.block != nil {
		disk.PutBuf(w.block.buf)
		w.block = nil
	}
	t := w.tier
	if w.file != nil {
		if err := w.file.Close(); err != nil {
			t.log.Warn("close of an aborted table failed", "file", t.path(w.id, newSuffix), "err", err)
		}
		w.removeNames()
	}
	t.budget.addDirty(-w.reserved)
	t.mu.Lock()
	delete(t.writing, w.id)
	t.mu.Unlock()
}

// removeNames removes the file, which has its final name if only the directory's sync failed.
func (w *Writer) removeNames() {
	t := w.tier
	for _, suffix := range []string{newSuffix, finalSuffix} {
		path := t.path(w.id, suffix)
		if _, err := t.disk.Stat(path); err != nil {
			continue
		}
		if err := t.disk.Remove(path); err != nil {
			t.log.Warn("remove of an aborted table failed", "file", path, "err", err)
		}
	}
}
