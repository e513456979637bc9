package memory

// Chunks that were read and fell out wait in a list, since bigcache calls back under a lock. Each
// operation puts a few back; each that goes back pushes another out, which may have been read too.
const (
	fallenMax = 16 // in the list, at most
	backMax   = 4  // put back by one operation
)

// fallen is a chunk that fell out of a cache.
type fallen struct {
	at                   uint64 // Tier.clock when it fell out
	inode, index, region uint64
	entry                []byte
}

// fits reports whether a chunk of that length is held.
func (h *holdings) fits(chunk []byte) bool {
	return len(chunk) == 0 || len(chunk) >= dataMin && len(chunk) <= h.chunkSize
}

// insert puts what was right at the given time into a cache, unless it was written since.
func (h *holdings) insert(at uint64, inode, index, hash uint64, toMain bool, chunk []byte) bool {
	s := h.stripes.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	region := h.regions.of(inode, index).Load()
	if s.written > at || region > at {
		return false
	}
	key := getKey(inode, index, region)
	defer key.put()
	into, other := h.main, h.probation
	if !toMain && h.probation != nil {
		into, other = other, into
	}
	if other != nil {
		other.delete(key)
	}
	into.set(key, chunk)
	return true
}

// replace makes chunk the only version; the caller holds the stripe. It enters by probation, so that a chunk
// that is written over and over leaves its holes there.
func (h *holdings) replace(k *key, chunk []byte) {
	if h.probation == nil {
		h.main.set(k, chunk)
		return
	}
	h.main.delete(k)
	h.probation.set(k, chunk)
}

// forget removes the chunk; the caller holds the stripe.
func (h *holdings) forget(k *key) {
	h.main.delete(k)
	if h.probation != nil {
		h.probation.delete(k)
	}
}

func (h *holdings) fallOutOfMain(key string, entry []byte) { h.fallOut(key, entry, false) }

func (h *holdings) fallOutOfProbation(key string, entry []byte) { h.fallOut(key, entry, true) }

// fallOut is called under a lock of bigcache's for each entry that makes way for another. The
// clock is read while a Write that is about to replace the chunk has not moved it yet, so that
// putting back loses against that Write.
func (h *holdings) fallOut(key string, entry []byte, fromProbation bool) {
	at := h.clock.Load()
	inode, index, region := parseKey(key)
	if h.regions.of(inode, index).Load() != region {
		return // invalidated
	}
	hash := hashOf(inode, index)
	if !h.seen.remove(hash) {
		if fromProbation {
			h.ghosts.add(hash)
		}
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.fallen) < h.fallenMax {
		h.fallen = append(h.fallen, fallen{at: at, inode: inode, index: index, region: region, entry: entry})
		h.waiting.Store(true)
	}
}

// putBack puts a few of the chunks that fell out into the main cache. The caller holds no lock.
func (h *holdings) putBack() {
	for range backMax {
		if !h.waiting.Load() {
			return
		}
		f, ok := h.takeFallen()
		if !ok {
			return
		}
		if h.regions.of(f.inode, f.index).Load() != f.region {
			continue
		}
		chunk := f.entry
		if len(chunk) == emptyLength {
			chunk = nil
		}
		h.insert(f.at, f.inode, f.index, hashOf(f.inode, f.index), true, chunk)
	}
}

func (h *holdings) takeFallen() (f fallen, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.fallen)
	if n == 0 {
		return f, false
	}
	f = h.fallen[n-1]
	h.fallen[n-1] = fallen{}
	h.fallen = h.fallen[:n-1]
	h.waiting.Store(n > 1)
	return f, true
}
