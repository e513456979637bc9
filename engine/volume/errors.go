package volume

import "errors"

var (
	// ErrInUse reports a data directory that another process uses.
	ErrInUse = errors.New("volume: directory is in use by another process")
	// ErrDirs reports local directories that do not belong together, or not to this volume.
	ErrDirs = errors.New("volume: directories do not belong together")
	// ErrNotUploaded reports a stop that left changes which the bucket does not have. They are
	// in the journal and the NVMe tier.
	ErrNotUploaded = errors.New("volume: stopped with changes not uploaded")
	// ErrRefused reports that devices stay closed because the takeover may have lost writes.
	ErrRefused = errors.New("volume: closed after a takeover that may have lost acknowledged writes")
	// ErrStopping reports a call after Close began.
	ErrStopping = errors.New("volume: stopping")
	// ErrGap reports that neither the fenced log nor the journal holds a change that later ones build on.
	ErrGap = errors.New("volume: gap in the changes to replay")
	// ErrMismatch reports settings that are not those the volume was made with.
	ErrMismatch = errors.New("volume: settings are not the volume's")
)
