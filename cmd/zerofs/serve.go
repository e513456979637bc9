package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"zerofs/config"
	"zerofs/engine/locks"
	"zerofs/engine/volume"
	"zerofs/fence"
	"zerofs/servers"
	"zerofs/servers/admin"
	"zerofs/servers/fuse"
	"zerofs/tiers/disk"
	"zerofs/tiers/object"
	"zerofs/tiers/seal"
)

// errSignal is the cause of a stop that was asked for.
var errSignal = errors.New("signal")

// process is one run of a volume.
type process struct {
	cfg   *config.Config
	log   *slog.Logger
	waits *waits
	state *state // what the admin socket tells
	admin *admin.Server
	store object.Store
	vol   *volume.Volume
	locks *locks.Table // of all servers
	nbd   *nbdServers
	ninep *ninepServers
	fuse  *fuse.Server

	untilUnmounted bool // "zerofs mount": the end of the mount ends the process
}

// serve runs the volume until a signal, a failure, or another owner ends it. ready is called when
// requests are answered.
func serve(cfg *config.Config, stderr io.Writer, ready func()) error {
	return newProcess(cfg, stderr).serve(ready)
}

func newProcess(cfg *config.Config, stderr io.Writer) *process {
	log := newLogger(stderr, cfg.Log)
	p := &process{cfg: cfg, log: log, waits: &waits{log: log}, state: newState(cfg), locks: locks.New()}
	p.state.waits = p.waits
	return p
}

func (p *process) serve(ready func()) error {
	cfg, log := p.cfg, p.log
	limitMemory(cfg.Memory.Size)
	raiseFileLimit()
	ctx, stop := stopOnSignal(log)
	defer stop()

	err := p.open(ctx)
	if err == nil {
		log.Info("serving", "volume", cfg.Volume.URL, "epoch", p.vol.Status().Epoch, "durability", cfg.Journal.Durability)
		if ready != nil {
			ready()
		}
		err = p.run(ctx)
	} else if context.Cause(ctx) != nil && errors.Is(err, context.Cause(ctx)) {
		err = nil // told to stop before it served: nothing is left behind
	}
	return errors.Join(err, p.close(ctx))
}

// signalEcho is how soon after the first a signal is taken for the same one: timeout(1) and process
// managers signal a process and then its group.
const signalEcho = 200 * time.Millisecond

// stopOnSignal returns a context that ends at the first SIGTERM or SIGINT. The second ends the process.
func stopOnSignal(log *slog.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-ch:
			log.Info("stopping; a second signal stops at once", "signal", s.String())
			cancel(errSignal)
		case <-done:
			return
		}
		first := time.Now()
		for {
			select {
			case s := <-ch:
				if time.Since(first) < signalEcho {
					continue
				}
				log.Error("stopped at once", "signal", s.String())
				os.Exit(exitStatus(errUnclean))
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(done)
		cancel(nil)
	}
}

// open brings everything up, in order: store, keyring, volume, devices, listeners.
func (p *process) open(ctx context.Context) (err error) {
	for _, dir := range []string{p.cfg.NVMe.Dir, p.cfg.Journal.Dir} {
		if err := privateDir(dir, p.log); err != nil {
			return err
		}
	}
	p.store, err = openStore(ctx, p.cfg, p.log)
	if err != nil {
		return err
	}
	done := p.waits.begin("store")
	sealed, err := openVolume(ctx, p.cfg, p.store, true)
	done()
	if err != nil {
		return err
	}
	p.state.setStore(p.store)
	p.vol, err = volume.Open(ctx, p.volumeOptions(sealed))
	if err != nil {
		return err
	}
	p.state.setVolume(p.vol)
	if n := p.cfg.NBD; n != nil {
		for _, d := range n.Devices {
			if err := p.vol.EnsureDevice(ctx, d.Name, d.Size); err != nil {
				return err
			}
		}
		if p.nbd, err = startNBD(ctx, n, p.vol, p.log); err != nil {
			return err
		}
		p.state.setNBD(p.nbd)
	}
	if n := p.cfg.NineP; n != nil {
		if p.ninep, err = startNineP(ctx, n, p.vol, p.locks, p.log); err != nil {
			return err
		}
		p.state.setNineP(p.ninep)
	}
	if err := p.mount(ctx); err != nil {
		return err
	}
	if err := p.listenAdmin(ctx, p.cfg.Admin.Listen, ""); err != nil {
		return err
	}
	p.state.setServing()
	return nil
}

func (p *process) volumeOptions(sealed *seal.Volume) volume.Options {
	c := p.cfg
	return volume.Options{
		Disk: disk.OS(), NVMeDir: c.NVMe.Dir, NVMeSize: c.NVMe.Size, JournalDir: c.Journal.Dir, JournalSize: c.Journal.Size,
		MemorySize: c.Memory.Size, MaxSize: c.Volume.MaxSize, Store: p.store, Volume: sealed,
		Durability: map[string]fence.Durability{"local": fence.Local, "object": fence.Object}[c.Journal.Durability],
		Interval:   c.Writeback.Interval,
		Owner:      c.Fence.Owner, Lease: c.Fence.Lease,
		Takeover:       map[string]fence.Takeover{"wait": fence.Wait, "never": fence.Never, "force": fence.Force}[c.Fence.Takeover],
		ContinueOnLoss: c.Fence.LeaseLoss == "continue", RefuseAfterLoss: c.Fence.AfterLoss == "refuse",
		Identity: identity, Volatile: disk.IsVolatile, Boottime: boottime, Now: time.Now, Rand: rand.Reader, Logger: p.log, Waiting: p.waits.begin,
		// The admin socket lies in the data directory, so it waits until that is ours.
		Locked: func(ctx context.Context) error { return p.listenAdmin(ctx, nil, c.Admin.UnixSocket) },
	}
}

func (p *process) listenAdmin(ctx context.Context, addrs []string, unix string) error {
	lns, err := servers.Listen(ctx, addrs, unix)
	if err != nil {
		return err
	}
	if p.admin == nil {
		p.admin = admin.New(p.state, p.log)
	}
	for _, ln := range lns {
		if unix == "" && len(p.cfg.Admin.Allow) > 0 {
			ln = servers.Allow(ln, p.cfg.Admin.Allow, p.log)
		}
		p.admin.Go(ln)
	}
	return nil
}

// run waits for what ends the volume.
func (p *process) run(ctx context.Context) error {
	var nbdFailed, ninepFailed <-chan error
	if p.nbd != nil {
		nbdFailed = p.nbd.failed
	}
	if p.ninep != nil {
		ninepFailed = p.ninep.failed
	}
	var unmounted <-chan struct{}
	if p.fuse != nil {
		unmounted = p.fuse.Done()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.vol.Done():
			return p.vol.Err()
		case err := <-nbdFailed:
			return err
		case err := <-ninepFailed:
			return err
		case <-unmounted:
			if p.untilUnmounted {
				p.log.Info("unmounted; stopping")
				return nil
			}
			p.log.Warn("somebody unmounted the volume; the other servers go on", "mountpoint", p.cfg.FUSE.Mountpoint)
			unmounted = nil
		}
	}
}

// close stops the servers, then the volume, within stop_timeout.
func (p *process) close(context.Context) error {
	p.state.setStopping()
	ctx, cancel := context.WithTimeout(context.Background(), p.cfg.Volume.StopTimeout)
	defer cancel()
	var stopping sync.WaitGroup // all at once: each waits for its own clients
	if p.fuse != nil {
		stopping.Go(func() { stopFUSE(ctx, p.fuse, p.vol.Err() != nil, p.log) })
	}
	if p.nbd != nil {
		stopping.Go(func() { p.nbd.shutdown(ctx, p.vol.Err() != nil) })
	}
	if p.ninep != nil {
		stopping.Go(func() { p.ninep.shutdown(ctx, p.vol.Err() != nil) })
	}
	stopping.Wait()
	var err error
	if p.vol != nil {
		refused := p.vol.Status().Refused
		done := p.waits.begin("upload")
		err = p.vol.Close(ctx)
		done()
		switch {
		case errors.Is(err, volume.ErrNotUploaded):
			p.log.Error("stopped; the journal keeps what was not uploaded", "error", err, "journal", p.cfg.Journal.Dir)
		case err == nil && refused:
			p.log.Warn("stopped; the volume is not released, since nobody has accepted what a takeover may have lost")
		case err == nil:
			p.log.Info("stopped cleanly: everything is uploaded, the volume is released")
		}
		if p.vol.Err() != nil {
			err = nil // run has told it
		}
	}
	if p.admin != nil {
		actx, acancel := context.WithTimeout(context.Background(), time.Second)
		_ = p.admin.Shutdown(actx) // a client that holds on is cut off
		acancel()
	}
	return err
}

// changePassword makes the volume open with next.
func changePassword(cfg *config.Config, next string, stderr io.Writer) error {
	log := newLogger(stderr, cfg.Log)
	if next == "" {
		return badUsage("ZEROFS_NEW_PASSWORD is empty")
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTime)
	defer cancel()
	store, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	if err := seal.ChangePassword(ctx, store, []byte(cfg.Volume.Password.Reveal()), []byte(next), rand.Reader); err != nil {
		return fmt.Errorf("change password of %s: %w", cfg.Volume.URL, storeError(err))
	}
	log.Info("password changed", "volume", cfg.Volume.URL)
	return nil
}
