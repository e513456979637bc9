package main

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"zerofs/config"
	"zerofs/engine/volume"
	"zerofs/servers/fuse"
	"zerofs/servers/nbd"
	"zerofs/servers/ninep"
	"zerofs/tiers/object"
)

// statusReport is what "zerofs status -json" prints. Fields are only ever added; docs/STATUS.md
// says what each means.
type statusReport struct {
	Version        versionInfo    `json:"version"`
	PID            int            `json:"pid"`
	URL            string         `json:"url"`
	Phase          string         `json:"phase"` // opening, serving, stopping or failed
	WaitingFor     string         `json:"waiting_for"`
	WaitingSeconds float64        `json:"waiting_seconds"`
	Volume         *volume.Status `json:"volume"` // null before it is open
	Requests       *object.Counts `json:"requests"`
	Listeners      []string       `json:"listeners"`
	NBD            *nbd.Stats     `json:"nbd"`
	FUSE           *fuse.Stats    `json:"fuse"` // null without a mount
	Devices        []deviceReport `json:"devices"`
	NineP          *ninepReport   `json:"ninep"` // null: not served
}

type ninepReport struct {
	Listeners []string `json:"listeners"`
	ninep.Stats
}

type deviceReport struct {
	Name       string `json:"name"`
	SizeBytes  int64  `json:"size_bytes"`
	Port       int    `json:"port"` // zero: none of its own
	WriteCache bool   `json:"write_cache"`
}

// state is what the process tells of itself. It is an admin.Source.
type state struct {
	cfg   *config.Config
	waits *waits

	mu       sync.Mutex
	store    object.Store // guarded by mu, as all below
	vol      *volume.Volume
	nbd      *nbdServers
	ninep    *ninepServers
	fuse     *fuse.Server
	serving  bool // every listener is open
	stopping bool
}

func newState(cfg *config.Config) *state { return &state{cfg: cfg} }

func (s *state) setStore(store object.Store) { s.mu.Lock(); s.store = store; s.mu.Unlock() }
func (s *state) setVolume(v *volume.Volume)  { s.mu.Lock(); s.vol = v; s.mu.Unlock() }
func (s *state) setNBD(n *nbdServers)        { s.mu.Lock(); s.nbd = n; s.mu.Unlock() }
func (s *state) setNineP(n *ninepServers)    { s.mu.Lock(); s.ninep = n; s.mu.Unlock() }
func (s *state) setFUSE(f *fuse.Server)      { s.mu.Lock(); s.fuse = f; s.mu.Unlock() }
func (s *state) setServing()                 { s.mu.Lock(); s.serving = true; s.mu.Unlock() }
func (s *state) setStopping()                { s.mu.Lock(); s.stopping = true; s.mu.Unlock() }

// Status returns a statusReport.
func (s *state) Status() any { return s.report() }

func (s *state) report() statusReport {
	s.mu.Lock()
	store, vol, srv, files, mount, serving, stopping := s.store, s.vol, s.nbd, s.ninep, s.fuse, s.serving, s.stopping
	s.mu.Unlock()
	r := statusReport{Version: version(), PID: os.Getpid(), URL: s.cfg.Volume.URL, Phase: "opening", Listeners: []string{}, Devices: []deviceReport{}}
	what, d := s.waits.now()
	r.WaitingFor, r.WaitingSeconds = what, d.Seconds()
	if store != nil {
		c := object.CountsOf(store)
		r.Requests = &c
	}
	if vol != nil {
		st := vol.Status()
		r.Volume = &st
	}
	if srv != nil {
		r.Listeners = srv.addrs
		st := srv.server.Stats()
		r.NBD = &st
	}
	if files != nil {
		r.NineP = &ninepReport{Listeners: files.addrs, Stats: files.server.Stats()}
	}
	if mount != nil {
		st := mount.Stats()
		r.FUSE = &st
	}
	if s.cfg.NBD != nil {
		for _, d := range s.cfg.NBD.Devices {
			r.Devices = append(r.Devices, deviceReport{d.Name, d.Size, d.Port, d.WriteCache})
		}
	}
	switch {
	case r.Volume != nil && r.Volume.Failed != "":
		r.Phase = "failed"
	case stopping:
		r.Phase = "stopping"
	case serving:
		r.Phase = "serving"
	}
	return r
}

// Ready returns nil while requests are answered.
func (s *state) Ready() error {
	r := s.report()
	switch {
	case r.Phase != "serving" && r.WaitingFor != "":
		return fmt.Errorf("%s: waiting for %s", r.Phase, r.WaitingFor)
	case r.Phase != "serving":
		return errors.New(r.Phase)
	case r.Volume.LeaseError != "":
		return errors.New(r.Volume.LeaseError)
	case r.Volume.Refused:
		return volume.ErrRefused
	}
	return nil
}

// Accept opens devices that a takeover closed.
func (s *state) Accept() (bool, error) {
	s.mu.Lock()
	vol := s.vol
	s.mu.Unlock()
	if vol == nil {
		return false, errors.New("the volume is not open yet")
	}
	return vol.Accept(), nil
}
