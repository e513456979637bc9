package nbd

import (
	"encoding/binary"
	"strings"
)

// optionReply appends the reply to an option to p.
//
//	offset  size  field
//	0       8     magic 0x0003e889045565a9
//	8       4     option that is answered
//	12      4     kind of reply, bit 31 for errors
//	16      4     n, length of the data
//	20      n     data
func optionReply(p []byte, opt, kind uint32, data ...[]byte) []byte {
	n := 0
	for _, d := range data {
		n += len(d)
	}
	p = binary.BigEndian.AppendUint64(p, magicOptReply)
	p = binary.BigEndian.AppendUint32(p, opt)
	p = binary.BigEndian.AppendUint32(p, kind)
	p = binary.BigEndian.AppendUint32(p, uint32(n))
	for _, d := range data {
		p = append(p, d...)
	}
	return p
}

// optionData reads the fields of an option's data. After a field that is not all there, or a
// string over the protocol's limit, ok is false and everything reads as zero.
type optionData struct {
	rest []byte
	ok   bool
}

func (d *optionData) bytes(n int) []byte {
	if !d.ok || n > len(d.rest) {
		d.ok = false
		return nil
	}
	p := d.rest[:n]
	d.rest = d.rest[n:]
	return p
}

func (d *optionData) uint16() uint16 {
	if p := d.bytes(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *optionData) uint32() uint32 {
	if p := d.bytes(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *optionData) string() string {
	n := d.uint32()
	if n > maxName {
		d.ok = false
	}
	return string(d.bytes(int(min(n, maxName))))
}

// end reports whether everything was there and nothing is left.
func (d *optionData) end() bool { return d.ok && len(d.rest) == 0 }

// infoRequest is the data of INFO and GO.
//
//	offset  size  field
//	0       4     n, length of the name
//	4       n     name of the export, empty for the default one
//	4+n     2     k, number of kinds
//	6+n     2k    kinds of information asked for
type infoRequest struct {
	name  string
	kinds []uint16
}

func parseInfo(data []byte) (infoRequest, bool) {
	d := optionData{rest: data, ok: true}
	r := infoRequest{name: d.string()}
	for n := d.uint16(); n > 0 && d.ok; n-- {
		r.kinds = append(r.kinds, d.uint16())
	}
	return r, d.end()
}

// metaRequest is the data of LIST_META_CONTEXT and SET_META_CONTEXT: a name, the number of queries
// (4 bytes) and the queries, each of the strings with its length (4 bytes) before it.
type metaRequest struct {
	name    string
	queries []string
}

func parseMeta(data []byte) (metaRequest, bool) {
	d := optionData{rest: data, ok: true}
	r := metaRequest{name: d.string()}
	for n := d.uint32(); n > 0 && d.ok; n-- {
		r.queries = append(r.queries, d.string())
	}
	for _, q := range r.queries {
		if !strings.Contains(q, ":") {
			return r, false
		}
	}
	return r, d.end()
}

// selects reports whether the queries select base:allocation. To list, no query at all and the
// empty leaf stand for every context; to set, they stand for none.
func (r metaRequest) selects(list bool) bool {
	if list && len(r.queries) == 0 {
		return true
	}
	for _, q := range r.queries {
		if q == contextAllocation || list && q == "base:" {
			return true
		}
	}
	return false
}
