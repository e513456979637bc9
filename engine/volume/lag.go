package volume

import (
	"slices"
	"sync"
	"time"

	"zerofs/journal"
)

// lagMeter tells the age of the oldest change that the log does not hold: what losing this host
// would lose with durability local. It remembers at which times which LSN was the last one.
type lagMeter struct {
	mu      sync.Mutex
	samples []lagSample // guarded by mu; ascending in both fields
}

type lagSample struct {
	last journal.LSN
	at   time.Duration
}

// lagSamples bounds the memory of a long outage: beyond it every other sample is forgotten,
// which makes the lag read older than it is by at most two samples' distance.
const lagSamples = 4096

// look notes the last LSN now, and forgets what the log covers.
func (m *lagMeter) look(last, covered journal.LSN, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.samples) && m.samples[n].last <= covered {
		n++
	}
	m.samples = slices.Delete(m.samples, 0, n)
	if last <= covered || (len(m.samples) > 0 && m.samples[len(m.samples)-1].last == last) {
		return
	}
	m.samples = append(m.samples, lagSample{last, now})
	if len(m.samples) > lagSamples {
		kept := m.samples[:0]
		for i, s := range m.samples {
			if i%2 == 0 || i == len(m.samples)-1 {
				kept = append(kept, s)
			}
		}
		m.samples = kept
	}
}

// age returns the lag at now; zero when the log held everything at the last look.
func (m *lagMeter) age(now time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.samples) == 0 {
		return 0
	}
	return now - m.samples[0].at
}
