package volume

import (
	"encoding/hex"
	"time"

	"zerofs/fence"
	"zerofs/journal"
	"zerofs/tiers"
	"zerofs/tiers/memory"
	"zerofs/tiers/nvme"
)

// Status is a volume's state as "zerofs status -json" prints it. Fields are only ever added.
type Status struct {
	Volume     string      `json:"volume_id"`   // hex
	Epoch      fence.Epoch `json:"epoch"`       // of our turn
	Owner      string      `json:"owner"`       // our name
	Durability string      `json:"durability"`  // local or object
	Lease      string      `json:"lease"`       // valid, lapsed, fenced
	LeaseError string      `json:"lease_error"` // why no answer may be sent now; empty if it may
	Refused    bool        `json:"refused"`     // devices stay closed until "zerofs fence accept"
	Lossy      bool        `json:"lossy_takeover"`
	Failed     string      `json:"failed"` // why the volume no longer serves; empty while it does

	LastLSN    journal.LSN `json:"last_lsn"`    // of the newest change
	DurableLSN journal.LSN `json:"durable_lsn"` // in the local journal
	CoveredLSN journal.LSN `json:"covered_lsn"` // in the bucket
	LagSeconds float64     `json:"lag_seconds"` // age of the oldest change that the bucket lacks
	Pressure   float64     `json:"pressure"`    // of back-pressure: 0 none, 1 writers stand

	JournalUsed int64 `json:"journal_used_bytes"`
	JournalSize int64 `json:"journal_size_bytes"`

	NVMe   nvme.Usage   `json:"nvme"`
	Tree   tiers.Usage  `json:"tree"`
	Memory memory.Stats `json:"memory"`

	WriteBackErrors int64         `json:"write_back_errors"`
	Uptime          time.Duration `json:"uptime_ns"`
}

// Status returns the state now.
func (v *Volume) Status() Status {
	ju := v.journal.Usage()
	s := Status{
		Volume: hex.EncodeToString(v.opts.Volume.ID[:]), Epoch: v.owner.Epoch(), Owner: v.opts.Owner,
		Durability: durabilityName(v.opts.Durability), Lease: "valid", Refused: v.refused.Load(), Lossy: v.lossy.Load(),
		LastLSN: ju.Last, DurableLSN: ju.Durable, CoveredLSN: v.ships.covered(),
		LagSeconds: v.loops.lag.age(v.opts.Boottime()).Seconds(), Pressure: v.gate.load(),
		JournalUsed: ju.Used, JournalSize: ju.Size,
		NVMe: v.nvme.Usage(), Tree: v.tree.Usage(), Memory: v.memory.Stats(),
		WriteBackErrors: v.loops.errors.Load(), Uptime: v.opts.Now().Sub(v.opened),
	}
	if err := v.owner.Valid(); err != nil {
		s.Lease, s.LeaseError = "lapsed", err.Error()
	}
	if err := v.Err(); err != nil {
		s.Failed = err.Error()
	}
	return s
}
