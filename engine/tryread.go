package engine

// tryMax is the largest read in bytes that TryReadAt looks up: more is better shared out.
const tryMax = 256 << 10

// TryReadAt fills p from off if the memory tier has all of it, and reports whether it did. It
// waits for nothing. When it did not, p holds anything.
func (d *Device) TryReadAt(p []byte, off int64) bool {
	if len(p) == 0 || len(p) > tryMax || d.check("read", off, int64(len(p))) != nil {
		return false
	}
	return d.e.tryRead(d.n, p, off)
}

// tryRead fills p from off if the memory tier has all of it.
func (e *Engine) tryRead(n *node, p []byte, off int64) bool {
	if e.guard.enter() != nil {
		return false
	}
	defer e.guard.exit()
	w := e.window(n.ino, p, off)
	for i := w.first; i <= w.last; i++ {
		if !e.readCached(&w, i) {
			return false
		}
	}
	e.noteRead(n, &w, false)
	return true
}
