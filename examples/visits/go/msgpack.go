package main

import (
	"encoding/binary"
	"math"
)

// writer builds MessagePack. Its methods chain, so that a key and its value fit on a line.
type writer struct{ out []byte }

// head starts a map (base 0x80) or an array (0x90) of up to 15 entries.
func (w *writer) head(base byte, count int) *writer {
	w.out = append(w.out, base|byte(count))
	return w
}

func (w *writer) number(n uint64) *writer {
	w.out = append(w.out, 0xcf)
	w.out = binary.BigEndian.AppendUint64(w.out, n)
	return w
}

func (w *writer) text(s string) *writer {
	if len(s) < 32 {
		w.out = append(w.out, 0xa0|byte(len(s)))
	} else {
		w.length(0xd9, len(s))
	}
	w.out = append(w.out, s...)
	return w
}

func (w *writer) binary(b []byte) *writer {
	w.length(0xc4, len(b))
	w.out = append(w.out, b...)
	return w
}

// length writes n in one, two or four bytes; first is the head of the one-byte form.
func (w *writer) length(first byte, n int) {
	switch {
	case n <= math.MaxUint8:
		w.out = append(w.out, first, byte(n))
	case n <= math.MaxUint16:
		w.out = binary.BigEndian.AppendUint16(append(w.out, first+1), uint16(n))
	default:
		w.out = binary.BigEndian.AppendUint32(append(w.out, first+2), uint32(n))
	}
}

// kind is the family of a value.
type kind int

const (
	invalid kind = iota
	null
	boolean
	integer
	negative
	float
	bytes // str and bin alike
	extension
	array
	dictionary
)

// value is one decoded value; of an array or a dictionary only its head.
type value struct {
	kind   kind
	number uint64 // of an integer
	bytes  []byte // of bytes, a view into the input
	count  uint64 // of an array or a dictionary: how many values, or pairs, follow
}

// reader walks over MessagePack. The first mistake in the input makes it bad, and a bad reader finds nothing more.
type reader struct {
	in  []byte
	bad bool
}

func (r *reader) fail() value {
	r.bad, r.in = true, nil
	return value{}
}

// take cuts the next n bytes off the input.
func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.in)) {
		r.fail()
		return nil
	}
	taken := r.in[:n]
	r.in = r.in[n:]
	return taken
}

// unsigned reads a number of width bytes, most significant first.
func (r *reader) unsigned(width int) uint64 {
	var n uint64
	for _, b := range r.take(uint64(width)) {
		n = n<<8 | uint64(b)
	}
	return n
}

// sized checks that a container of so many values can be in what is left.
func (r *reader) sized(k kind, count, values uint64) value {
	if values > uint64(len(r.in)) {
		return r.fail()
	}
	return value{kind: k, count: count}
}

func (r *reader) next() value {
	head := byte(r.unsigned(1))
	if r.bad {
		return value{}
	}
	var v value
	switch {
	case head <= 0x7f:
		v = value{kind: integer, number: uint64(head)}
	case head <= 0x8f:
		v = r.sized(dictionary, uint64(head&15), 2*uint64(head&15))
	case head <= 0x9f:
		v = r.sized(array, uint64(head&15), uint64(head&15))
	case head <= 0xbf:
		v = value{kind: bytes, bytes: r.take(uint64(head & 31))}
	case head == 0xc0:
		v = value{kind: null}
	case head == 0xc1:
		return r.fail()
	case head <= 0xc3:
		v = value{kind: boolean}
	case head <= 0xc6:
		v = value{kind: bytes, bytes: r.take(r.unsigned(1 << (head - 0xc4)))}
	case head <= 0xc9:
		v = value{kind: extension}
		r.take(1 + r.unsigned(1<<(head-0xc7)))
	case head <= 0xcb:
		v = value{kind: float}
		r.take(4 << (head - 0xca))
	case head <= 0xcf:
		v = value{kind: integer, number: r.unsigned(1 << (head - 0xcc))}
	case head <= 0xd3:
		width := 1 << (head - 0xd0)
		shift := 64 - 8*width
		signed := int64(r.unsigned(width)<<shift) >> shift
		v = value{kind: integer, number: uint64(signed)}
		if signed < 0 {
			v.kind = negative
		}
	case head <= 0xd8:
		v = value{kind: extension}
		r.take(1 + 1<<(head-0xd4))
	case head <= 0xdb:
		v = value{kind: bytes, bytes: r.take(r.unsigned(1 << (head - 0xd9)))}
	case head <= 0xdd:
		count := r.unsigned(2 << (head - 0xdc))
		v = r.sized(array, count, count)
	case head <= 0xdf:
		count := r.unsigned(2 << (head - 0xde))
		v = r.sized(dictionary, count, 2*count)
	default:
		v = value{kind: negative}
	}
	if r.bad {
		return value{}
	}
	return v
}

// skip passes one whole value. It counts what is still owed instead of recursing, so no depth is too deep.
func (r *reader) skip() {
	for owed := uint64(1); owed > 0 && !r.bad; owed-- {
		switch v := r.next(); v.kind {
		case array:
			owed += v.count
		case dictionary:
			owed += 2 * v.count
		}
	}
}

// raw passes one whole value and returns it as it is written.
func (r *reader) raw() []byte {
	start := r.in
	r.skip()
	return start[:len(start)-len(r.in)]
}

// text reads a string or bytes; nil counts as empty.
func (r *reader) text() []byte {
	v := r.next()
	if v.kind != bytes && v.kind != null {
		r.fail()
	}
	return v.bytes
}

// natural reads an integer of any width that is not negative; nil counts as zero.
func (r *reader) natural() uint64 {
	v := r.next()
	if v.kind != integer && v.kind != null {
		r.fail()
	}
	return v.number
}

// entries calls each with every key of a map; each must read the value. Nil counts as an empty map.
func (r *reader) entries(each func(key []byte)) {
	v := r.next()
	if v.kind != dictionary && v.kind != null {
		r.fail()
	}
	for i := uint64(0); i < v.count && !r.bad; i++ {
		if key := r.text(); !r.bad {
			each(key)
		}
	}
}

// decodeEvent takes apart what the host delivers: a kind, and one value whose shape is given by the kind.
func decodeEvent(in []byte) (kind string, payload []byte, ok bool) {
	r := reader{in: in}
	r.entries(func(key []byte) {
		switch string(key) {
		case "kind":
			kind = string(r.text())
		case "payload":
			payload = r.raw()
		default:
			r.skip()
		}
	})
	return kind, payload, !r.bad
}

// request is the part of an HTTP request that this cell looks at.
type request struct {
	id     uint64
	method string
	path   string
}

func decodeRequest(in []byte) (request, bool) {
	var req request
	r := reader{in: in}
	r.entries(func(key []byte) {
		switch string(key) {
		case "id":
			req.id = r.natural()
		case "method":
			req.method = string(r.text())
		case "path":
			req.path = string(r.text())
		default:
			r.skip()
		}
	})
	return req, !r.bad
}
