package nbd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestShutdownWaitsForRequestsInFlight(t *testing.T) {
	d, srv := oneDevice()
	d.before = func(_ context.Context, op string) error {
		if op == "flush" {
			time.Sleep(10 * time.Second)
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, context.Background(), srv, Options{})
		busy, idle, early, half := r.dial(), r.dial(), r.dial(), r.dial()
		busy.attach("d", false)
		idle.attach("d", true)
		early.greet(flagFixedNewstyle)
		half.attach("d", true)
		half.send(encodeRequest(header{cmd: cmdWrite, length: 4096}))
		half.send(make([]byte, 100))
		busy.send(encodeRequest(header{cmd: cmdFlush, cookie: 1}))
		synctest.Wait()
		start := time.Now()
		r.shutdown()
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		a, _, ok, err := parseAnswer(busy.heard(), nil)
		if !ok || err != nil || a.cookie != 1 || a.errno != 0 {
			t.Errorf("FLUSH: %+v, %v", a, err)
		}
		for _, p := range []*peer{busy, idle, early, half} {
			if !p.gone() {
				t.Error("a connection stays")
			}
		}
		if err := srv.Serve(context.Background(), newPipes(), Options{}); !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	})
}

func TestShutdownCutsWhenItsTimeIsUp(t *testing.T) {
	d, srv := oneDevice()
	d.before = func(ctx context.Context, op string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, context.Background(), srv, Options{})
		p := r.dial()
		p.attach("d", false)
		p.send(encodeRequest(header{cmd: cmdFlush}))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for range 2 { // the second time changes nothing
			if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown: %v", err)
			}
		}
		if err := <-r.end; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if got := p.heard(); len(got) > 0 || !p.gone() {
			t.Errorf("heard % x", got)
		}
	})
}

func TestServeEndsWithItsContext(t *testing.T) {
	fenced := errors.New("fenced")
	d, srv := oneDevice()
	d.before = func(ctx context.Context, op string) error {
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(context.Background())
		r := startRig(t, ctx, srv, Options{})
		p, early := r.dial(), r.dial()
		p.attach("d", false)
		go func() {
			for i := range 200 { // more than may be in flight
				p.send(encodeRequest(header{cmd: cmdFlush, cookie: uint64(i)}))
			}
		}()
		synctest.Wait()
		cancel(fenced)
		if err := <-r.end; !errors.Is(err, fenced) {
			t.Errorf("Serve: %v", err)
		}
		if !p.gone() || !early.gone() || len(p.heard()) > 0 {
			t.Error("a connection stays, or was answered")
		}
	})
}

// A listener that fails ends Serve when those who are connected have ended.
func TestListenerThatIsClosed(t *testing.T) {
	_, srv := oneDevice()
	synctest.Test(t, func(t *testing.T) {
		r := startRig(t, context.Background(), srv, Options{})
		p := r.dial()
		p.attach("d", false)
		r.ln.Close()
		if a := p.do(header{cmd: cmdRead, length: 1}, nil, false); a.errno != 0 {
			t.Errorf("read: error %d", a.errno)
		}
		p.nc.Close()
		if err := <-r.end; err == nil || errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestInFlightIsBounded(t *testing.T) {
	d, srv := oneDevice()
	gate := make(chan struct{})
	d.before = func(ctx context.Context, op string) error {
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		gate = make(chan struct{})
		r := startRig(t, context.Background(), srv, Options{})
		p := r.dial()
		p.attach("d", false)
		go func() {
			for i := range 1000 {
				p.send(encodeRequest(header{cmd: cmdFlush, cookie: uint64(i)}))
			}
		}()
		synctest.Wait()
		d.mu.Lock()
		if len(d.calls) != maxInFlight {
			t.Errorf("%d requests at the device, want %d", len(d.calls), maxInFlight)
		}
		d.mu.Unlock()
		close(gate)
		if got := len(p.heard()); got != 1000*simpleSize {
			t.Errorf("%d bytes of answers", got)
		}
		r.shutdown()
	})
}
