package servers

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"
)

// Pauses of Accept after an error, and how often it speaks of them.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	acceptLogEvery = 10 * time.Second
)

// Accept calls handle, which must not block, with every connection until the listener is closed
// or the context ends, and says why it stopped: net.ErrClosed or the context's cause. Whoever
// ends the context closes the listener too. Errors that a listener survives (no file descriptors
// left, a client gone before it was accepted) are logged, not too often, and tried again after
// a pause.
func Accept(ctx context.Context, ln net.Listener, logger *slog.Logger, handle func(net.Conn)) error {
	said := limited{every: acceptLogEvery}
	pause := acceptPauseMin
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = acceptPauseMin
			handle(nc)
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, net.ErrClosed):
			return err
		}
		said.do(func(missed int64) {
			logger.Error("accept", "on", ln.Addr(), "err", err, "unlogged", missed)
		})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, acceptPauseMax)
	}
}
