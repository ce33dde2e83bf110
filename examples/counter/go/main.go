// Command counter is a Pulp cell with a number that everybody sees change at once.
//
//	GET  /count    the number
//	POST /count    one more; tells every browser that listens
//	GET  /events   the stream they listen to
//	GET  /         the page, which the host serves by itself
//
// It is built as a reactor: the host runs `_initialize` and then calls the exports below; main never runs.
package main

import (
	"encoding/binary"
	"strconv"
	"unsafe"
)

const envelopeHeader = 20 // call number u64, wall time u64, payload length u32

//go:wasmimport pulp http_register
func httpRegister(request unsafe.Pointer, length uint32) int32

//go:wasmimport pulp http_respond
func httpRespond(response unsafe.Pointer, length uint32) int32

//go:wasmimport pulp sse_register
func sseRegister(path unsafe.Pointer, length uint32) int32

//go:wasmimport pulp sse_emit
func sseEmit(event unsafe.Pointer, length uint32) int32

// buffers keeps what the host has been given alive: a pointer to the first byte is enough for the collector.
var buffers = map[*byte]struct{}{}

//go:wasmexport pulp_alloc
func pulpAlloc(size uint32) *byte {
	if size == 0 {
		return nil
	}
	first := unsafe.SliceData(make([]byte, size))
	buffers[first] = struct{}{}
	return first
}

//go:wasmexport pulp_free
func pulpFree(first *byte, _ uint32) {
	delete(buffers, first)
}

const stream = "/events"

var count uint64

//go:wasmexport pulp_init
func pulpInit(_ *byte, _ uint32) int32 {
	for _, method := range []string{"GET", "POST"} {
		var w writer
		w.head(0x80, 2)
		w.text("method").text(method)
		w.text("path").text("/count")
		if code := w.send(httpRegister); code != 0 {
			return code
		}
	}
	return sseRegister(unsafe.Pointer(unsafe.StringData(stream)), uint32(len(stream)))
}

//go:wasmexport pulp_step
func pulpStep(data *byte, length uint32) int32 {
	envelope := unsafe.Slice(data, length)
	if len(envelope) < envelopeHeader {
		return 1
	}
	size := binary.LittleEndian.Uint32(envelope[16:])
	if uint64(size) > uint64(len(envelope)-envelopeHeader) {
		return 1
	}
	if size == 0 {
		return 0 // idle
	}
	kind, payload, ok := decodeEvent(envelope[envelopeHeader:][:size])
	if !ok {
		return 2
	}
	if kind != "http.request" {
		return 0
	}
	request, ok := decodeRequest(payload)
	if !ok {
		return 3
	}
	if request.method == "POST" {
		count++
		if code := tell(strconv.FormatUint(count, 10)); code != 0 {
			return 100 + code
		}
	}
	return answer(request.id, strconv.FormatUint(count, 10))
}

//go:wasmexport pulp_shutdown
func pulpShutdown() int32 { return 0 }

// tell sends an event to every client of /events. Its id lets one that was away get what it missed.
func tell(number string) int32 {
	var w writer
	w.head(0x80, 4)
	w.text("path").text(stream)
	w.text("id").text(number)
	w.text("event").text("count")
	w.text("data").text(number)
	return w.send(sseEmit)
}

func answer(id uint64, body string) int32 {
	var w writer
	w.head(0x80, 4)
	w.text("id").number(id)
	w.text("status").number(200)
	w.text("headers").head(0x80, 1).text("Content-Type").text("text/plain")
	w.text("body").text(body)
	return w.send(httpRespond)
}

// send calls an import with what was written; it has been read when the import returns.
func (w *writer) send(function func(unsafe.Pointer, uint32) int32) int32 {
	return function(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out)))
}

func main() {}
