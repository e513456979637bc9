package fence

import (
	"context"
	"fmt"

	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// Inspect reads the log's head and state. It changes nothing, and retries until ctx ends.
func Inspect(ctx context.Context, store object.Store, key *seal.Key, volume seal.VolumeID) (Status, error) {
	s, err := newLogStore(store, key, volume, 0)
	if err != nil {
		return Status{}, err
	}
	v, err := s.read(ctx, 0)
	if err != nil {
		return Status{}, fmt.Errorf("fence: inspect: %w", err)
	}
	st := v.state
	out := Status{
		Head:       v.head(),
		Epoch:      st.epoch,
		Owner:      st.claim.owner,
		Lease:      st.claim.lease,
		Durability: st.claim.durability,
		Released:   st.released,
		LSN:        st.lsn,
		Covered:    st.covered(),
		Tables:     len(st.tables),
		HeadAge:    v.age,
	}
	for _, t := range st.tables {
		out.Bytes += t.Size
	}
	return out, nil
}
