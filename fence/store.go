package fence

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

const (
	backoffMin  = 50 * time.Millisecond
	backoffMax  = 5 * time.Second
	timeoutMin  = 2 * time.Second
	timeoutMax  = 15 * time.Second
	bodyTimeout = 5 * time.Minute // of one attempt at a body; far below any retention
	parallel    = 32              // GETs at once
)

// logStore reads and writes the objects of one volume's log. Any goroutine may use it.
type logStore struct {
	store    object.Store
	codec    *codec
	key      *seal.Key
	boottime func() time.Duration
	logger   *slog.Logger
	rand     *lockedReader
	timeout  time.Duration // of one request for a record
	insist   bool          // retries what the store refuses, too
}

// newLogStore returns a store for a volume. lease bounds how long one request may take; zero where no
// lease is at stake.
func newLogStore(store object.Store, key *seal.Key, volume seal.VolumeID, lease time.Duration) (*logStore, error) {
	c, err := newCodec(key, volume)
	if err != nil {
		return nil, err
	}
	s := &logStore{store: store, codec: c, key: key, logger: slog.New(slog.DiscardHandler), timeout: timeoutMax}
	s.boottime = func() time.Duration { return 0 }
	if lease > 0 {
		s.timeout = min(max(lease/6, timeoutMin), timeoutMax)
	}
	return s, nil
}

// lockedReader lets several goroutines share one source of random bytes.
type lockedReader struct {
	mu sync.Mutex // guards r
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return io.ReadFull(l.r, p)
}

// attempt runs one request under its own deadline.
func attempt(ctx context.Context, timeout time.Duration, op func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return op(ctx)
}

// answered reports whether err is the store's word on the request, so that the same again would
// be answered alike. Everything else may go away, and where much depends on the answer, so may a refusal.
func (s *logStore) answered(err error) bool {
	return err == nil || errors.Is(err, object.ErrNotFound) || errors.Is(err, object.ErrExists) ||
		!s.insist && (errors.Is(err, object.ErrDenied) || errors.Is(err, object.ErrFatal))
}

// insisting returns s, retrying what the store refuses as well.
func (s *logStore) insisting() *logStore {
	c := *s
	c.insist = true
	return &c
}

// retry repeats op until it is answered or ctx ends.
func (s *logStore) retry(ctx context.Context, timeout time.Duration, op func(ctx context.Context) error) error {
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		err := attempt(ctx, timeout, op)
		if s.answered(err) {
			return err
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		s.logger.Warn("fence: store request failed, trying again", "error", err, "wait", wait)
		if err := s.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// sleep waits between half of d and all of it.
func (s *logStore) sleep(ctx context.Context, d time.Duration) error {
	if s.rand != nil {
		var b [1]byte
		if _, err := s.rand.Read(b[:]); err == nil {
			d = d/2 + d/2*time.Duration(b[0])/255
		}
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listing is what a read of the head found.
type listing struct {
	seqs  []Seq         // ascending
	sizes map[Seq]int64 // bytes
	ages  map[Seq]time.Time
	look  look
	whole bool // nothing was skipped at the beginning
}

func newListing() *listing {
	return &listing{sizes: map[Seq]int64{}, ages: map[Seq]time.Time{}, whole: true}
}

// add takes a page's records in. Some stores do not keep an order between pages.
func (l *listing) add(page object.Page) {
	for _, e := range page.Entries {
		if q := parseLogKey(e.Key); q != 0 {
			if _, twice := l.sizes[q]; !twice {
				l.seqs = append(l.seqs, q)
			}
			l.sizes[q], l.ages[q] = e.Size, e.Modified
		}
	}
	slices.Sort(l.seqs)
}

// list lists the records from the given one on, all of them where the store has no order.
func (s *logStore) list(ctx context.Context, from Seq) (*listing, error) {
	var l *listing
	err := s.retry(ctx, s.timeout*4, func(ctx context.Context) (err error) {
		l, err = s.listOnce(ctx, from)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fence: list %s: %w", logPrefix, err)
	}
	return l, nil
}

func (s *logStore) listOnce(ctx context.Context, from Seq) (*listing, error) {
	l := newListing()
	l.look.boot = s.boottime()
	after := ""
	if from > 1 && s.store.Ordered() {
		after, l.whole = logKey(from-1), false
	}
	for {
		page, err := s.store.List(ctx, logPrefix, after)
		if err != nil {
			return nil, err
		}
		if l.look.date.IsZero() {
			l.look.date = page.Date
		}
		l.add(page)
		if after = page.Next; after == "" {
			return l, nil
		}
	}
}

// oldest lists the lowest records: a page of them where the store has an order, else all.
func (s *logStore) oldest(ctx context.Context) (*listing, error) {
	if !s.store.Ordered() {
		return s.listOnce(ctx, 0)
	}
	page, err := s.store.List(ctx, logPrefix, "")
	if err != nil {
		return nil, err
	}
	l := newListing()
	l.look.date, l.whole = page.Date, page.Next == ""
	l.add(page)
	return l, nil
}

// get reads a whole object of at most limit bytes, expected to have size.
func (s *logStore) get(ctx context.Context, key string, size, limit int64, timeout time.Duration) (data []byte, info object.Info, err error) {
	err = s.retry(ctx, timeout, func(ctx context.Context) error {
		buf := make([]byte, min(max(size, 0), limit)+1)
		n, i, err := s.store.Get(ctx, key, 0, buf)
		if err != nil {
			return err
		}
		if i.Size > int64(n) && i.Size <= limit && n == len(buf) {
			buf = make([]byte, i.Size+1)
			if n, i, err = s.store.Get(ctx, key, 0, buf); err != nil {
				return err
			}
		}
		data, info = buf[:n], i
		return nil
	})
	if err != nil {
		return nil, object.Info{}, fmt.Errorf("fence: get %s: %w", key, err)
	}
	return data, info, nil
}

// getRecord reads the stored bytes of a record.
func (s *logStore) getRecord(ctx context.Context, q Seq, size int64) ([]byte, object.Info, error) {
	return s.get(ctx, logKey(q), size, recordMax, s.timeout)
}

// putBody uploads a body in an object of its own, in the format of a sealed file.
func (s *logStore) putBody(ctx context.Context, epoch Epoch, k kind, plain []byte) (bodyRef, error) {
	var id seal.FileID
	if _, err := s.rand.Read(id[:]); err != nil {
		return bodyRef{}, fmt.Errorf("fence: id of a %s: %w", k, err)
	}
	ref := bodyRef{
		object: fmt.Sprintf("files/%016x-%s.%s", uint64(epoch), hex.EncodeToString(id[:]), k),
		id:     id,
		size:   int64(len(plain)),
	}
	sealed, err := s.sealBody(ref, plain)
	if err != nil {
		return bodyRef{}, err
	}
	// The name is random: if it exists it is from an earlier try.
	err = s.retry(ctx, bodyTimeout, func(ctx context.Context) error {
		_, err := s.store.Put(ctx, ref.object, bytes.NewReader(sealed), object.PutOptions{IfAbsent: true})
		return err
	})
	if err != nil && !errors.Is(err, object.ErrExists) {
		return ref, fmt.Errorf("fence: put %s: %w", ref.object, err)
	}
	return ref, nil
}

func (s *logStore) sealBody(ref bodyRef, plain []byte) ([]byte, error) {
	f, err := s.key.File(ref.id)
	if err != nil {
		return nil, fmt.Errorf("fence: seal %s: %w", ref.object, err)
	}
	out := make([]byte, 0, seal.StoredSize(ref.size))
	out = append(out, f.Header()...)
	frames := seal.Frames(ref.size)
	for i := range frames {
		n := min(len(plain), seal.FrameData)
		out = f.Seal(out, plain[:n], i, i == frames-1)
		plain = plain[n:]
	}
	return out, nil
}

// getBody returns a body's plaintext. An error about its bytes wraps ErrCorrupt and names the object.
func (s *logStore) getBody(ctx context.Context, ref bodyRef) ([]byte, error) {
	if ref.object == "" {
		return ref.inline, nil
	}
	size := seal.StoredSize(ref.size)
	stored, info, err := s.get(ctx, ref.object, size, size, bodyTimeout)
	if err != nil {
		return nil, err
	}
	if info.Size != size || int64(len(stored)) != size {
		return nil, fmt.Errorf("%w: %s has %d bytes, its record says %d", ErrCorrupt, ref.object, info.Size, size)
	}
	plain, err := s.openBody(ref, stored)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, ref.object, err)
	}
	return plain, nil
}

func (s *logStore) openBody(ref bodyRef, stored []byte) ([]byte, error) {
	f, err := s.key.File(ref.id)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(stored[:seal.HeaderSize], f.Header()) {
		return nil, errors.New("its header is not the one of its id")
	}
	stored = stored[seal.HeaderSize:]
	plain := make([]byte, 0, ref.size)
	frames := seal.Frames(ref.size)
	for i := range frames {
		n := min(len(stored), seal.FrameSize)
		if plain, err = f.Open(plain, stored[:n], i, i == frames-1); err != nil {
			return nil, err
		}
		stored = stored[n:]
	}
	return plain, nil
}

// each runs fn for 0 ≤ i < n, at most parallel at once, and returns the first error by index.
func each(n int, fn func(i int) error) error {
	errs := make([]error, n)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(n, parallel) {
		wg.Go(func() {
			for i := range next {
				errs[i] = fn(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
