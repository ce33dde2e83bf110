// Command fetch-proxy is a Pulp cell that fetches what it is asked for, and hands it on.
//
//	GET /proxy?url=https://example.com/   the page: its status, its type, its body
//
// Where it may go is not its decision: see docs/how-to/outbound.md.
package main

import (
	"encoding/binary"
	"time"
	"unsafe"
)

const envelopeHeader = 20 // call number u64, wall time u64, payload length u32

//go:wasmimport pulp http_register
func httpRegister(request unsafe.Pointer, length uint32) int32

//go:wasmimport pulp http_respond
func httpRespond(response unsafe.Pointer, length uint32) int32

//go:wasmimport pulp http_fetch
func httpFetch(request unsafe.Pointer, length uint32, address, size unsafe.Pointer) int32

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
	var w writer
	w.head(0x80, 2)
	w.text("method").text("GET")
	w.text("path").text("/proxy")
	if code := httpRegister(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out))); code != 0 {
		return 100 + code
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
	id, url, ok := decodeRequest(payload)
	if !ok {
		return 3
	}
	found, ok := fetch(url)
	if !ok {
		found = page{status: 502, contentType: "text/plain; charset=utf-8", body: []byte("cannot fetch that\n")}
	}
	return respond(id, found)
}

//go:wasmexport pulp_shutdown
func pulpShutdown() int32 { return 0 }

// fetch asks for url; what the host delivers is in a buffer of pulpAlloc's, which is ours to give up.
func fetch(url string) (page, bool) {
	var w writer
	w.head(0x80, 2)
	w.text("url").text(url)
	w.text("timeout").number(uint64(10 * time.Second))
	var first *byte
	var size uint32
	code := httpFetch(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out)), unsafe.Pointer(&first), unsafe.Pointer(&size))
	if code != 0 {
		return page{}, false
	}
	delete(buffers, first)
	return decodePage(unsafe.Slice(first, size))
}

func respond(id uint64, found page) int32 {
	var w writer
	w.head(0x80, 4)
	w.text("id").number(id)
	w.text("status").number(found.status)
	w.text("headers")
	if found.contentType == "" {
		w.head(0x80, 0)
	} else {
		w.head(0x80, 1).text("Content-Type").text(found.contentType)
	}
	w.text("body").binary(found.body)
	if code := httpRespond(unsafe.Pointer(unsafe.SliceData(w.out)), uint32(len(w.out))); code != 0 {
		return 300 + code
	}
	return 0
}

func main() {}
