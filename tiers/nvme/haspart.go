package nvme

import "zerofs/tiers/seal"

// HasPart reports whether the part cache holds a part, or is about to. It reads no disk and
// counts neither as a hit nor as a miss.
func (t *Tier) HasPart(id seal.FileID, part uint64) bool {
	key, ok := partKey(id, part)
	if !ok {
		return false
	}
	c := t.parts
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending[key] != nil || c.table.Has(key)
}
