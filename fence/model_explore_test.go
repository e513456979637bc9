package fence

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"unsafe"
)

// mresult is what exploring found.
type mresult struct {
	states, steps int
	wrong         string
	trace         []string
}

var mSeed = maphash.MakeSeed()

// bytes returns s as it lies in memory: every field is one byte, so that there is no padding.
func (s *mstate) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s))
}

func (s *mstate) key() [2]uint64 {
	return [2]uint64{maphash.Bytes(mSeed, s.bytes()), maphash.Bytes(mSeed2, s.bytes())}
}

var mSeed2 = maphash.MakeSeed()

type mparent struct {
	from [2]uint64
	who  int
	what string
}

// explore visits every state that can be reached, nearest first, until one is wrong or more than
// limit were seen.
func (cfg mconfig) explore(limit int, trace bool) mresult {
	m := &model{cfg: cfg}
	first := mstate{left: cfg.budget}
	seen := map[[2]uint64]struct{}{first.key(): {}}
	parents := map[[2]uint64]mparent{}
	level := []mstate{first}
	res := mresult{states: 1}
	for len(level) > 0 {
		var next []mstate
		for i := range level {
			m.successors(&level[i])
			for k := range m.out {
				st := &m.out[k]
				res.steps++
				st.state.canonical()
				key := st.state.key()
				if _, ok := seen[key]; !ok {
					seen[key] = struct{}{}
					if trace {
						parents[key] = mparent{level[i].key(), st.who, st.what}
					}
					next = append(next, st.state)
				}
			}
			if m.wrong != "" {
				res.wrong = m.wrong
				res.trace = path(parents, level[i].key())
				return res
			}
		}
		level = next
		if res.states = len(seen); res.states > limit {
			res.wrong = fmt.Sprintf("more than %d states", limit)
			return res
		}
	}
	return res
}

func path(parents map[[2]uint64]mparent, key [2]uint64) []string {
	var steps []string
	for {
		p, ok := parents[key]
		if !ok {
			slices.Reverse(steps)
			return steps
		}
		if p.who != mWorld {
			p.what = fmt.Sprintf("process %d %s", p.who, p.what)
		}
		steps = append(steps, p.what)
		key = p.from
	}
}

func (r mresult) String() string {
	return fmt.Sprintf("%d states, %d steps; %s\n  %s", r.states, r.steps, r.wrong, strings.Join(r.trace, "\n  "))
}
