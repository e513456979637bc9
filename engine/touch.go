package engine

import "time"

// touchDelay is how long access times are gathered.
const touchDelay = 5 * time.Second

// touched queues a node. It may be forgotten, and its access time with it, before its turn comes.
func (e *Engine) touched(n *node) { e.touch.add(n.ino) }

// keepTouched stores access times until the engine is closed.
func (e *Engine) keepTouched() {
	defer e.bg.Done()
	for {
		select {
		case <-e.touch.wake:
		case <-e.life.Done():
			return
		}
		timer := time.NewTimer(touchDelay)
		select {
		case <-timer.C:
		case <-e.life.Done():
			timer.Stop()
			return
		}
		e.storeTouched()
	}
}

const touchMax = 64 // inodes in one record of the log

// storeTouched stores the access times that are waiting.
func (e *Engine) storeTouched() {
	for q := e.touch.take(); len(q) > 0; {
		k := min(len(q), touchMax)
		if err := e.storeAtimes(q[:k]); err != nil && e.life.Err() == nil {
			e.opts.Logger.Warn("access times are not stored", "inodes", k, "err", err)
		}
		q = q[k:]
	}
}

func (e *Engine) storeAtimes(inodes []Ino) error {
	t, err := e.begin(e.life, len(inodes)*attrOpMax)
	if err != nil {
		return err
	}
	defer t.end()
	for _, ino := range inodes {
		n := e.nodes.find(ino)
		if n == nil {
			continue
		}
		defer e.release(n)
		if n.atime.Load() != 0 { // else stored with another change
			t.setAttr(n, func(*Attr) error { return nil })
		}
	}
	if len(t.fixups) == 0 {
		return nil
	}
	_, err = t.commit()
	return err
}
