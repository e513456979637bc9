package engine

import "sync"

// inoQueue hands inodes to one background goroutine. Any goroutine may add.
type inoQueue struct {
	wake chan struct{} // holds a token while something may be queued

	mu    sync.Mutex // short
	queue []Ino      // guarded by mu
}

func (q *inoQueue) init() { q.wake = make(chan struct{}, 1) }

// add queues an inode.
func (q *inoQueue) add(ino Ino) {
	q.mu.Lock()
	q.queue = append(q.queue, ino)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default: // it is awake
	}
}

// take returns what is queued, and forgets it.
func (q *inoQueue) take() []Ino {
	q.mu.Lock()
	defer q.mu.Unlock()
	inodes := q.queue
	q.queue = nil
	return inodes
}
