package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func twoDevices() *shelf {
	return &shelf{devs: map[string]Device{"a": newRAM(1 << 20), "b": newRAM(2 << 20)}}
}

// show writes replies as "option:kind data".
func show(replies []optReply) string {
	var out []string
	for _, r := range replies {
		kind := fmt.Sprint(r.kind)
		if r.kind&(1<<31) != 0 {
			kind = fmt.Sprintf("err%d", r.kind&^(1<<31))
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d:%s %x", r.opt, kind, r.data)))
	}
	return strings.Join(out, "; ")
}

func TestOptions(t *testing.T) {
	info := func(size uint64, flags uint16) string {
		return fmt.Sprintf("0000%016x%04x", size, flags)
	}
	type step struct {
		opt  uint32
		data []byte
		want string
	}
	sr := step{optStructuredReply, nil, "8:1"}
	for _, tc := range []struct {
		name  string
		steps []step
		gone  bool // afterwards
	}{
		{"list", []step{{optList, nil, "3:2 0000000161; 3:2 0000000162; 3:1"}}, false},
		{"list with data", []step{{optList, []byte("x"), "3:err3"}}, false},
		{"unknown", []step{{77, []byte("xyz"), "77:err1"}, {4, nil, "4:err1"}}, false},
		{"abort", []step{{optAbort, []byte("bye"), "2:1"}}, true},
		{"info", []step{{optInfo, encodeInfo("b"), "6:3 " + info(2<<20, exportFlags) + "; 6:1"}}, false},
		{"info of the default", []step{{optInfo, encodeInfo(""), "6:3 " + info(1<<20, exportFlags) + "; 6:3 000161; 6:1"}}, false},
		{"info of all kinds", []step{{
			optInfo, encodeInfo("a", 1, 2, 3, 99),
			"6:3 " + info(1<<20, exportFlags) + "; 6:3 000161; 6:3 0002" + fmt.Sprintf("%x", description) +
				"; 6:3 0003000000010000100002000000; 6:1",
		}}, false},
		{"info of none", []step{{optInfo, encodeInfo("c"), "6:err6"}}, false},
		{"info cut short", []step{{optInfo, encodeInfo("a", 1)[:6], "6:err3"}, {optInfo, nil, "6:err3"}}, false},
		{"info with more", []step{{optInfo, append(encodeInfo("a"), 0), "6:err3"}}, false},
		{"info name beyond", []step{{optInfo, []byte{0xff, 0xff, 0xff, 0xff, 'a', 0, 0}, "6:err3"}}, false},
		{"go", []step{{optGo, encodeInfo("a"), "7:3 " + info(1<<20, exportFlags) + "; 7:1"}}, false},
		{"go with structured replies", []step{sr, {optGo, encodeInfo("a"), "7:3 " + info(1<<20, exportFlags|flagSendDF) + "; 7:1"}}, false},
		{"go after an error", []step{{optGo, encodeInfo("c"), "7:err6"}, {optGo, encodeInfo("a"), "7:3 " + info(1<<20, exportFlags) + "; 7:1"}}, false},
		{"structured with data", []step{{optStructuredReply, []byte{1}, "8:err3"}}, false},
		{"meta without structured", []step{{optSetMetaContext, encodeMeta("a", contextAllocation), "10:err3"}}, false},
		{"meta set", []step{sr, {optSetMetaContext, encodeMeta("a", contextAllocation, "x-y:z"), "10:4 00000001" + fmt.Sprintf("%x", contextAllocation) + "; 10:1"}}, false},
		{"meta set wildcard", []step{sr, {optSetMetaContext, encodeMeta("a", "base:"), "10:1"}}, false},
		{"meta set nothing", []step{sr, {optSetMetaContext, encodeMeta("a"), "10:1"}}, false},
		{"meta list all", []step{sr, {optListMetaContext, encodeMeta("a"), "9:4 00000000" + fmt.Sprintf("%x", contextAllocation) + "; 9:1"}}, false},
		{"meta list wildcard", []step{sr, {optListMetaContext, encodeMeta("a", "base:"), "9:4 00000000" + fmt.Sprintf("%x", contextAllocation) + "; 9:1"}}, false},
		{"meta list other", []step{sr, {optListMetaContext, encodeMeta("a", "qemu:", "base:other"), "9:1"}}, false},
		{"meta of none", []step{sr, {optListMetaContext, encodeMeta("c"), "9:err6"}}, false},
		{"meta without colon", []step{sr, {optListMetaContext, encodeMeta("a", "base"), "9:err3"}}, false},
		{"meta with too few queries", []step{sr, {optListMetaContext, binary.BigEndian.AppendUint32(encodeMeta("a")[:5], 1<<31), "9:err3"}}, false},
		{"no tls", []step{{optStartTLS, nil, "5:err1"}, {optList, nil, "3:2 0000000161; 3:2 0000000162; 3:1"}}, false},
		{"too big", []step{{optList, make([]byte, maxOption+1), "3:err9"}}, true},
		{"large and unknown", []step{{77, make([]byte, maxOption), "77:err1"}}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, &Server{Exports: twoDevices()}, Options{DefaultExport: "a"}, func(r *rig) {
				p := r.dial()
				p.greet(flagFixedNewstyle)
				for i, s := range tc.steps {
					if got := show(p.option(s.opt, s.data)); got != s.want {
						t.Errorf("step %d:\n got %s\nwant %s", i, got, s.want)
					}
				}
				if got := p.gone(); got != tc.gone {
					t.Errorf("gone: %v, want %v", got, tc.gone)
				}
			})
		})
	}
}

func TestHandshakeFlags(t *testing.T) {
	export := func(n int) []byte {
		p := binary.BigEndian.AppendUint64(nil, 1<<20)
		p = binary.BigEndian.AppendUint16(p, exportFlags)
		return append(p, make([]byte, n)...)
	}
	for _, tc := range []struct {
		name  string
		flags uint32
		say   []byte
		want  []byte
		gone  bool
	}{
		{"export name", flagFixedNewstyle, encodeOption(optExportName, []byte("a")), export(124), false},
		{"export name, no zeroes", flagFixedNewstyle | flagNoZeroes, encodeOption(optExportName, []byte("a")), export(0), false},
		{"export name of default", flagNoZeroes, encodeOption(optExportName, nil), export(0), false},
		{"export name of none", flagNoZeroes, encodeOption(optExportName, []byte("c")), nil, true},
		{"options without fixed newstyle", 0, encodeOption(optList, nil), nil, true},
		{"unknown flag", 4, encodeOption(optList, nil), nil, true},
		{"wrong magic", flagFixedNewstyle, make([]byte, 16), nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, &Server{Exports: twoDevices()}, Options{DefaultExport: "a"}, func(r *rig) {
				p := r.dial()
				p.greet(tc.flags)
				if got := p.ask(tc.say); !reflect.DeepEqual(got, tc.want) && len(got)+len(tc.want) > 0 {
					t.Errorf("got % x, want % x", got, tc.want)
				}
				if got := p.gone(); got != tc.gone {
					t.Errorf("gone: %v, want %v", got, tc.gone)
				}
			})
		})
	}
}

func TestNoDefaultExport(t *testing.T) {
	inBubble(t, &Server{Exports: twoDevices()}, Options{}, func(r *rig) {
		p := r.dial()
		p.greet(flagFixedNewstyle)
		if got := show(p.option(optGo, encodeInfo(""))); got != "7:err6" {
			t.Errorf("GO of the default export: %s", got)
		}
	})
}

func TestExportThatMayNotOpen(t *testing.T) {
	s := twoDevices()
	s.err = errors.New("closed until an operator's word")
	inBubble(t, &Server{Exports: s}, Options{}, func(r *rig) {
		p := r.dial()
		p.greet(flagFixedNewstyle)
		if got := show(p.option(optGo, encodeInfo("a"))); got != "7:err2" {
			t.Errorf("GO: %s", got)
		}
	})
}

// A context selected for one export says nothing of another, nor does one whose selection failed later.
func TestMetaContextOfAnotherExport(t *testing.T) {
	for _, tc := range []struct {
		name string
		last []byte // data of a second SET_META_CONTEXT, if any
		gone string // export attached to
		want uint32 // error of BLOCK_STATUS
	}{
		{"same", nil, "a", 0},
		{"other", nil, "b", errInvalid},
		{"default is the same", nil, "", 0},
		{"deselected", encodeMeta("a"), "a", errInvalid},
		{"failed", []byte("nonsense"), "a", errInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, &Server{Exports: twoDevices()}, Options{DefaultExport: "a"}, func(r *rig) {
				p := r.dial()
				p.greet(flagFixedNewstyle)
				p.option(optStructuredReply, nil)
				p.option(optSetMetaContext, encodeMeta("a", contextAllocation))
				if tc.last != nil {
					p.option(optSetMetaContext, tc.last)
				}
				p.option(optGo, encodeInfo(tc.gone))
				a := p.do(header{cmd: cmdBlockStatus, cookie: 7, length: 4096}, nil, true)
				if a.errno != tc.want {
					t.Errorf("error %d, want %d", a.errno, tc.want)
				}
			})
		})
	}
}
