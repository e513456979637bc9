package main

import (
	"errors"

	"zerofs/config"
	"zerofs/engine"
	"zerofs/engine/volume"
	"zerofs/fence"
	"zerofs/tiers/seal"
)

// errStore marks a store that could not be used at start.
var errStore = errors.New("object store unusable")

// errUnclean marks a stop by a second signal.
var errUnclean = errors.New("stopped at once")

// statuses maps errors to exit statuses; the first match counts.
var statuses = []struct {
	err    error
	status int
}{
	{fence.ErrFenced, ExitFenced},
	{volume.ErrNotUploaded, ExitNotUploaded},
	{errUnclean, ExitNotUploaded},
	{seal.ErrPassword, ExitPassword},
	{fence.ErrOwned, ExitOwned},
	{volume.ErrInUse, ExitInUse},
	{volume.ErrDirs, ExitDirs},
	{fence.ErrRolledBack, ExitDirs},
	{volume.ErrMismatch, ExitUsage},
	{engine.ErrSmaller, ExitUsage},
	{errStore, ExitStore},
}

func exitStatus(err error) int {
	var u *usageError
	var p *config.Problems
	if errors.As(err, &u) || errors.As(err, &p) {
		return ExitUsage
	}
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			return s.status
		}
	}
	return ExitOther
}
