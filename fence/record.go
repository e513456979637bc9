package fence

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"zerofs/tiers/seal"
)

// kind is what a record says. Values are part of the format.
type kind uint8

const (
	kindClaim   kind = 1
	kindRenew   kind = 2
	kindShip    kind = 3
	kindCommit  kind = 4
	kindBase    kind = 5
	kindPin     kind = 6
	kindUnpin   kind = 7
	kindRelease kind = 8
)

var kindNames = [...]string{"none", "claim", "renew", "ship", "commit", "base", "pin", "unpin", "release"}

func (k kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// substantive reports whether a record of this kind must carry a nonce that its writer's disk
// holds: all but Renew, Pin and Unpin.
func (k kind) substantive() bool {
	return k != kindRenew && k != kindPin && k != kindUnpin
}

type (
	nonce [16]byte
	hash  [32]byte // SHA-256 of a record's stored bytes
)

const (
	recordMagic   = "ZFSL"
	recordVersion = 1

	recordHead  = 8                // magic, version, reserved
	sealNonce   = 24               // of XChaCha20-Poly1305
	sealTag     = 16               // of the same
	recordPlain = 64               // the plaintext's fixed part
	recordMax   = 256 << 10        // bytes of a stored record
	inlineMax   = recordMax - 1024 // bytes of a body that still travels in its record
	nameMax     = 1024             // bytes of a name of any sort
	bodyMax     = 1 << 30          // bytes of a body
)

// bodyRef says where a record's body is: inline, or in an object of its own.
type bodyRef struct {
	inline []byte // when object is empty
	object string
	id     seal.FileID
	size   int64 // bytes of plaintext
}

// record is one record of the log, decoded.
type record struct {
	kind  kind
	epoch Epoch
	nonce nonce
	prev  hash // of the record before; zero for the first

	claim claimInfo // Claim
	first uint64    // Ship
	last  uint64    // Ship
	lsn   uint64    // Commit
	asOf  Seq       // Base: the state is that of this record; those between it and the Base come on top
	body  bodyRef   // Ship, Commit, Base
	name  string    // Pin, Unpin
}

// claimInfo is what a Claim says of its owner.
type claimInfo struct {
	identity   Identity
	owner      string
	lease      time.Duration
	durability Durability
}

func logKey(s Seq) string { return fmt.Sprintf("log/%016x", uint64(s)) }

const (
	logPrefix = "log/"
	hintKey   = "log-base"
)

// parseLogKey returns the sequence number of a record's key; zero for any other key.
func parseLogKey(key string) Seq {
	digits, ok := strings.CutPrefix(key, logPrefix)
	if !ok || len(digits) != 16 {
		return 0
	}
	v, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || logKey(Seq(v)) != key {
		return 0
	}
	return Seq(v)
}

// codec seals and opens records of one volume.
type codec struct {
	aead   cipher.AEAD
	volume seal.VolumeID
}

func newCodec(key *seal.Key, volume seal.VolumeID) (*codec, error) {
	a, err := key.XAEAD("log")
	if err != nil {
		return nil, fmt.Errorf("fence: key of the log: %w", err)
	}
	return &codec{aead: a, volume: volume}, nil
}

// aad binds a record to its header, volume and place.
func (c *codec) aad(head []byte, s Seq) []byte {
	b := append(make([]byte, 0, recordHead+16+8), head...)
	b = append(b, c.volume[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(s))
}

// seal returns the stored bytes of r at place s. n is a fresh random nonce of 24 bytes.
func (c *codec) seal(r *record, s Seq, n []byte) ([]byte, error) {
	plain := encodeRecord(r)
	if _, err := decodeRecord(plain); err != nil {
		return nil, fmt.Errorf("fence: %s record that nobody could read: %w", r.kind, err)
	}
	total := recordHead + sealNonce + len(plain) + sealTag
	if total > recordMax {
		return nil, fmt.Errorf("fence: %s record of %d bytes is larger than %d", r.kind, total, recordMax)
	}
	out := make([]byte, 0, total)
	out = append(out, recordMagic...)
	out = append(out, recordVersion, 0, 0, 0)
	aad := c.aad(out, s)
	out = append(out, n...)
	return c.aead.Seal(out, n, plain, aad), nil
}

// open decodes the stored bytes at place s. An error wraps ErrCorrupt and names the record.
func (c *codec) open(stored []byte, s Seq) (*record, error) {
	r, err := c.decode(stored, s)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, logKey(s), err)
	}
	return r, nil
}

func (c *codec) decode(stored []byte, s Seq) (*record, error) {
	if len(stored) < recordHead+sealNonce+sealTag || len(stored) > recordMax {
		return nil, fmt.Errorf("has %d bytes", len(stored))
	}
	head := stored[:recordHead]
	if string(head[:4]) != recordMagic {
		return nil, errors.New("is no record")
	}
	if head[4] != recordVersion {
		return nil, fmt.Errorf("has version %d, this program knows %d", head[4], recordVersion)
	}
	n := stored[recordHead : recordHead+sealNonce]
	plain, err := c.aead.Open(nil, n, stored[recordHead+sealNonce:], c.aad(head, s))
	if err != nil {
		return nil, errors.New("does not authenticate")
	}
	return decodeRecord(plain)
}

func hashOf(stored []byte) hash { return sha256.Sum256(stored) }

// encodeRecord returns the plaintext of r. See the package documentation for the bytes.
func encodeRecord(r *record) []byte {
	b := make([]byte, 0, recordPlain+256+len(r.body.inline))
	form := byte(0)
	if r.body.object != "" {
		form = 1
	}
	b = append(b, byte(r.kind), form, 0, 0, 0, 0, 0, 0)
	b = putU64(b, uint64(r.epoch))
	b = append(b, r.nonce[:]...)
	b = append(b, r.prev[:]...)
	switch r.kind {
	case kindClaim:
		return putClaim(b, r.claim)
	case kindShip:
		b = putU64(putU64(b, r.first), r.last)
		return putBody(b, r.body)
	case kindCommit:
		return putBody(putU64(b, r.lsn), r.body)
	case kindBase:
		return putBody(putU64(b, uint64(r.asOf)), r.body)
	case kindPin, kindUnpin:
		return putString(b, r.name)
	}
	return b
}

func putBody(b []byte, ref bodyRef) []byte {
	if ref.object == "" {
		return append(b, ref.inline...)
	}
	return putRef(b, ref)
}

func putRef(b []byte, ref bodyRef) []byte {
	b = append(b, ref.id[:]...)
	b = putU64(b, uint64(ref.size))
	return putString(b, ref.object)
}

func putClaim(b []byte, c claimInfo) []byte {
	b = append(b, c.identity.Dir[:]...)
	b = append(b, c.identity.Boot[:]...)
	b = putU64(b, c.identity.Dev)
	b = putU64(b, c.identity.Ino)
	b = putBool(b, c.identity.Local)
	b = append(b, byte(c.durability))
	b = putU64(b, uint64(c.lease))
	return putString(b, c.owner)
}

// decodeRecord decodes a record's plaintext. Inline bodies share its memory.
func decodeRecord(plain []byte) (*record, error) {
	d := &reader{b: plain}
	r := &record{kind: kind(d.u8())}
	form := d.u8()
	d.zeros(6)
	r.epoch = Epoch(d.u64())
	r.nonce = d.array16()
	r.prev = d.array32()
	if form > 1 || form == 1 && r.kind != kindShip && r.kind != kindCommit && r.kind != kindBase {
		d.fail(fmt.Errorf("%s record of form %d", r.kind, form))
	}
	if r.epoch == 0 {
		d.fail(errors.New("epoch is zero"))
	}
	switch r.kind {
	case kindClaim:
		r.claim = d.claim()
	case kindShip:
		r.first, r.last = d.u64(), d.u64()
		r.body = d.body(form)
		if r.first == 0 || r.last < r.first {
			d.fail(fmt.Errorf("ships %d to %d", r.first, r.last))
		}
	case kindCommit:
		r.lsn = d.u64()
		r.body = d.body(form)
	case kindBase:
		r.asOf = Seq(d.u64())
		r.body = d.body(form)
	case kindPin, kindUnpin:
		r.name = d.name()
	case kindRenew, kindRelease:
	default:
		d.fail(fmt.Errorf("unknown kind %d", uint8(r.kind)))
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *reader) name() string {
	s := r.string()
	if len(s) > nameMax || s == "" && r.err == nil {
		r.fail(fmt.Errorf("name of %d bytes", len(s)))
	}
	return s
}

func (r *reader) body(form uint8) bodyRef {
	if form == 0 {
		p := r.take(uint64(len(r.b)))
		return bodyRef{inline: p, size: int64(len(p))}
	}
	return r.ref()
}

func (r *reader) ref() bodyRef {
	ref := bodyRef{id: r.array16(), size: int64(r.u64()), object: r.name()}
	if ref.size < 0 || ref.size > bodyMax {
		r.fail(fmt.Errorf("body of %d bytes", ref.size))
	}
	return ref
}

func (r *reader) claim() claimInfo {
	var c claimInfo
	c.identity.Dir = r.array16()
	c.identity.Boot = r.array16()
	c.identity.Dev = r.u64()
	c.identity.Ino = r.u64()
	c.identity.Local = r.bool()
	c.durability = Durability(r.u8())
	c.lease = time.Duration(r.u64())
	c.owner = r.string()
	switch {
	case r.err != nil:
	case c.durability != Local && c.durability != Object:
		r.fail(fmt.Errorf("unknown durability %d", c.durability))
	case c.lease <= 0 || c.lease > LeaseMax:
		r.fail(fmt.Errorf("lease of %v", c.lease))
	case len(c.owner) > nameMax:
		r.fail(fmt.Errorf("owner's name of %d bytes", len(c.owner)))
	}
	return c
}
