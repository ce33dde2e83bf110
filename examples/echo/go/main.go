// Command echo is a Pulp cell that says back what it is told.
//
//	GET  /echo/:msg   the message, as text
//	POST /echo        the body, as bytes
//
// It is built as a reactor: the host runs `_initialize` and then calls the exports below; main never runs.
package main

import (
	"encoding/binary"
	"unsafe"
)

const envelopeHeader = 20 // call number u64, wall time u64, payload length u32

//go:wasmimport pulp http_register
func httpRegister(request unsafe.Pointer, length uint32) int32

//go:wasmimport pulp http_respond
func httpRespond(response unsafe.Pointer, length uint32) int32

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

//go:wasmexport pulp_init
func pulpInit(_ *byte, _ uint32) int32 {
	if code := register("GET", "/echo/:msg"); code != 0 {
		return 100 + code
	}
	if code := register("POST", "/echo"); code != 0 {
		return 200 + code
	}
	return 0
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
	return answer(request)
}

//go:wasmexport pulp_shutdown
func pulpShutdown() int32 { return 0 }

func register(method, path string) int32 {
	var w writer
	w.head(0x80, 2)
	w.text("method").text(method)
	w.text("path").text(path)
	return httpRegister(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out)))
}

// response is reused: an import has read it by the time it returns.
var response writer

func answer(request request) int32 {
	contentType, said := "text/plain; charset=utf-8", request.message
	if request.method == "POST" {
		contentType, said = "application/octet-stream", request.body
	}
	w := &response
	w.out = w.out[:0]
	w.head(0x80, 4)
	w.text("id").number(request.id)
	w.text("status").number(200)
	w.text("headers").head(0x80, 1).text("Content-Type").text(contentType)
	w.text("body").binary(said)
	if code := httpRespond(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out))); code != 0 {
		return 300 + code
	}
	return 0
}

func main() {}
