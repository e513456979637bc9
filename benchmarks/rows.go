//go:build linux

package main

// row measures one or a few lines of the table. later, if not nil, gives more of them, when the rows
// after it have been measured.
type row struct {
	name    string
	measure func(*bench) (res []result, later func() ([]result, error), err error)
}

// simple is a row that ends by itself. What it left on the disks is removed.
func simple(f func(*bench) ([]result, error)) func(*bench) ([]result, func() ([]result, error), error) {
	return func(b *bench) ([]result, func() ([]result, error), error) {
		defer b.clean()
		res, err := f(b)
		return res, nil, err
	}
}

// rows are in the order in which they are measured: speed while nothing else runs, then the ten
// minutes that the space row takes, and beside it what does not depend on the load.
var rows = []row{
	{"fua1", simple((*bench).fuaOne)},
	{"fua64", simple((*bench).fuaMany)},
	{"read-memory", simple((*bench).readMemory)},
	{"write-seq", simple((*bench).writeSequential)},
	{"read-nvme", simple((*bench).readNVMe)},
	{"read-cold", simple((*bench).readCold)},
	{"start", simple((*bench).start)},
	{"object", simple((*bench).objectDurable)},
	{"memory", simple((*bench).memory)},
	{"put-seq", simple((*bench).putSequential)},
	{"put-random", (*bench).putRandom},
	{"s3-flush", simple((*bench).flushRequests)},
	{"s3-idle", simple((*bench).idleRequests)},
}
