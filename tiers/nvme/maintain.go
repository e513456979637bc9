package nvme

import "time"

const (
	maintainEvery = 10 * time.Second
	saveEvery     = 6 // of those
)

// maintain does what is due now and then, until the tier is closed.
func (t *Tier) maintain() {
	ticker := time.NewTicker(maintainEvery)
	defer ticker.Stop()
	for i := 1; ; i++ {
		select {
		case <-t.closed:
			return
		case <-ticker.C:
		}
		t.ballast.restore(t.log)
		if i%saveEvery == 0 {
			t.parts.resumeGrowth()
			t.parts.saveIfChanged()
		}
		t.parts.report()
	}
}

// diskIsFull reports whether hardly anything is available.
func (t *Tier) diskIsFull() bool {
	usage, err := t.disk.GetDiskUsage(t.dir)
	return err == nil && usage.AvailBytes < fullMark
}
