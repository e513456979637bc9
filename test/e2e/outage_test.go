package e2e

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"
)

// outageLength is how long the store is away in TestStoreOutage: longer than the lease of 10 s.
func outageLength(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ZEROFS_OUTAGE")
	if text == "" {
		return 20 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 15*time.Second {
		t.Fatalf("ZEROFS_OUTAGE=%s: want 15s or more", text)
	}
	return d
}

// pulse writes one durable block after the other and notes how long the slowest took.
type pulse struct {
	host  *host
	quit  chan struct{}
	done  chan struct{}
	mu    sync.Mutex
	count int64         // guarded by mu, as all below
	worst time.Duration // since the last call of take
	begun time.Time     // of the write under way
	err   error
}

// pulseBlocks is the number of blocks that a pulse writes in turn.
const pulseBlocks = 1000

func newPulse(h *host) *pulse {
	p := &pulse{host: h, quit: make(chan struct{}), done: make(chan struct{}), begun: time.Now()}
	c := h.dial()
	go func() {
		defer close(p.done)
		for i := int64(0); ; i++ {
			select {
			case <-p.quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if !p.beat(c, i) {
				return
			}
		}
	}()
	return p
}

func (p *pulse) beat(c *client, i int64) bool {
	p.mu.Lock()
	p.begun = time.Now()
	p.mu.Unlock()
	err := c.writeThrough(stamped(uint64(i%pulseBlocks), uint64(i+1)), i%pulseBlocks*4096)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worst = max(p.worst, time.Since(p.begun))
	p.err = err
	if err == nil {
		p.count = i + 1
	}
	return err == nil
}

// take returns how many writes were answered so far, and the longest that one took since the last call.
func (p *pulse) take() (count int64, worst time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count, worst, err = p.count, p.worst, p.err
	p.worst = 0
	return count, worst, err
}

func (p *pulse) stop() {
	close(p.quit)
	<-p.done
}

// check reads back every write.
func (p *pulse) check(t *testing.T, what string, c *client) {
	t.Helper()
	count, _, _ := p.take()
	got := make([]byte, 4096)
	for i := max(0, count-pulseBlocks); i < count; i++ {
		must(t, c.read(got, i%pulseBlocks*4096))
		if !bytes.Equal(got, stamped(uint64(i%pulseBlocks), uint64(i+1))) {
			t.Errorf("%s: write %d of %d is not there", what, i, count)
		}
	}
}

// TestStoreOutage takes the store away for longer than the lease. With lease_loss = "continue" the
// host writes on; with the default its requests wait once the lease has lapsed, and go on when the
// store is back. Nothing fails, nothing is lost, and the lag comes back down.
func TestStoreOutage(t *testing.T) {
	t.Parallel() // it waits most of the time
	length := outageLength(t)
	gw, proxy, endpoint := s3WithProxy(t)
	common := settings{lease: "10s", interval: "2s"}
	waiting := newHost(t, s3Store(gw, endpoint, "waiting"), common)
	common.leaseLoss = "continue"
	going := newHost(t, s3Store(gw, endpoint, "going"), common)
	ws, gs := waiting.start(), going.start()
	wp, gp := newPulse(waiting), newPulse(going)
	for _, s := range []*server{ws, gs} {
		s.poll("a first write-back", func() bool { return s.status().Volume.CoveredLSN > 20 })
	}
	wp.take()
	gp.take()

	proxy.Set(outage)
	time.Sleep(length)
	wn, _, _ := wp.take()
	gn, gworst, _ := gp.take()
	time.Sleep(2 * time.Second)
	if n, _, _ := wp.take(); n != wn {
		t.Errorf("%d writes were answered after the lease had lapsed", n-wn)
	}
	if n, _, _ := gp.take(); n == gn {
		t.Error(`no write was answered in two seconds of an outage with lease_loss = "continue"`)
	}
	if gworst > length/2 {
		t.Errorf(`a write took %s with lease_loss = "continue"`, gworst)
	}
	if ws.isReady() {
		t.Error("/readyz says that a host without its lease answers requests")
	}
	if st := ws.status().Volume; st.Lease != "lapsed" {
		t.Errorf("lease %q in an outage", st.Lease)
	}
	lag := gs.status().Volume.Lag
	if lag < length.Seconds()/2 {
		t.Errorf("lag of %.1f s after an outage of %s", lag, length)
	}

	proxy.Set(fair)
	ws.poll("writes that go on", func() bool { n, _, _ := wp.take(); return n > wn+20 })
	for _, s := range []*server{ws, gs} {
		s.poll("a small lag", func() bool { return s.status().Volume.Lag < 8 })
	}
	for _, h := range []struct {
		name string
		host *host
		s    *server
		p    *pulse
	}{{"wait", waiting, ws, wp}, {"continue", going, gs, gp}} {
		h.p.stop()
		count, _, err := h.p.take()
		if err != nil {
			t.Errorf("%s: a write failed: %v", h.name, err)
		}
		h.p.check(t, h.name, h.host.dial())
		t.Logf("%s: %d writes answered", h.name, count)
		h.s.stop()
	}
	next := newHost(t, s3Store(gw, endpoint, "going"), settings{})
	s := next.start()
	gp.check(t, "another host", next.dial())
	s.stop()
}

// TestStoreFaults runs a volume on a store that refuses, delays and loses answers.
func TestStoreFaults(t *testing.T) {
	gw, proxy, endpoint := s3WithProxy(t)
	p := s3Store(gw, endpoint, "faults")
	h := newHost(t, p, settings{interval: "500ms", lease: "20s"})
	s := h.start()
	faults := fair
	faults.ErrorRate, faults.DropRate, faults.Latency, faults.Jitter = 0.25, 0.25, 10*time.Millisecond, 40*time.Millisecond
	proxy.Set(faults)
	c := h.dial()
	const blocks = 2000
	written, sent := make([]uint64, blocks), uint64(0)
	s.poll("enough faults", func() bool {
		for range 100 {
			i := sent * 7 % blocks
			sent++
			must(t, c.write(stamped(i, sent), int64(i)*4096))
			written[i] = sent
		}
		must(t, c.flush())
		st := proxy.Stats()
		return sent >= blocks && st.Dropped >= 5 && st.Status5xx >= 5
	})
	s.settled()
	s.stop()
	next := newHost(t, p, settings{})
	s = next.start()
	c = next.dial()
	got := make([]byte, 4096)
	for i := range uint64(blocks) {
		must(t, c.read(got, int64(i)*4096))
		if !bytes.Equal(got, stamped(i, written[i])) {
			t.Fatalf("block %d is not as it was written last", i)
		}
	}
	s.stop()
}
