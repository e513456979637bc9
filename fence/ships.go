package fence

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

const (
	shipAhead      = 32       // Ships fetched at once
	shipAheadBytes = 16 << 20 // of them, but always one
)

// ShipBody returns the body of a Ship of State. Called for one after the other, it fetches those
// that follow as well, so that a long replay does not wait for each.
func (o *Owner) ShipBody(ctx context.Context, s ShipRef) ([]byte, error) {
	if body, ok := o.fetched.take(s.Seq); ok {
		return body, nil
	}
	ships := o.opened.Ships
	i := slices.IndexFunc(ships, func(x ShipRef) bool { return x.Seq == s.Seq })
	if i < 0 {
		return o.oneShip(ctx, s)
	}
	n, bytes := 1, s.body.size
	for i+n < len(ships) && n < shipAhead && bytes+ships[i+n].body.size <= shipAheadBytes {
		bytes += ships[i+n].body.size
		n++
	}
	bodies := make([][]byte, n)
	err := each(n, func(k int) (err error) {
		bodies[k], err = o.oneShip(ctx, ships[i+k])
		return err
	})
	if err != nil {
		return nil, err
	}
	for k := 1; k < n; k++ {
		o.fetched.put(ships[i+k].Seq, bodies[k])
	}
	return bodies[0], nil
}

func (o *Owner) oneShip(ctx context.Context, s ShipRef) ([]byte, error) {
	body, err := o.store.shipBody(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("fence: ship of lsn %d to %d: %w", s.First, s.Last, err)
	}
	return body, nil
}

// shipCache holds bodies between their fetching and their one use.
type shipCache struct {
	mu     sync.Mutex // guards bodies
	bodies map[Seq][]byte
}

func (c *shipCache) take(q Seq) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.bodies[q]
	delete(c.bodies, q)
	return b, ok
}

func (c *shipCache) put(q Seq, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bodies == nil {
		c.bodies = map[Seq][]byte{}
	}
	c.bodies[q] = b
}
