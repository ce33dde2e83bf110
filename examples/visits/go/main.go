// Command visits is a Pulp cell that remembers who was here, in memory only. Its manifest says snapshotable, so a
// restart of the host forgets nobody: goroutines, maps and timers go on where they were.
//
//	POST /visits/:name    one more visit of that name; answers its number, and how many there were of all
//	GET  /visits/:name    the same, without one more
//	POST /alarms/:ms      rings in so many milliseconds, those in which no host runs not counted
//	GET  /alarms          how many alarms have rung, and how often the cell has gone on from a snapshot
//
// It is built as a reactor: the host runs `_initialize` and then calls the exports below; main never runs.
package main

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
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

// A question to the clerk, who alone has the book.
type question struct {
	name   string
	enter  bool
	answer chan string
}

var (
	questions = make(chan question)
	rung      = make(chan struct{}, 64)
	restored  int
)

// clerk keeps the book in a map of its own, on a stack of its own.
func clerk() {
	book := map[string]int{}
	all := 0
	for q := range questions {
		if q.enter {
			book[q.name]++
			all++
		}
		q.answer <- fmt.Sprintf("%d of %d", book[q.name], all)
	}
}

//go:wasmexport pulp_init
func pulpInit(_ *byte, _ uint32) int32 {
	go clerk()
	for _, route := range [][2]string{
		{"GET", "/visits/:name"}, {"POST", "/visits/:name"}, {"POST", "/alarms/:ms"}, {"GET", "/alarms"},
	} {
		var w writer
		w.head(0x80, 2)
		w.text("method").text(route[0])
		w.text("path").text(route[1])
		if code := w.send(httpRegister); code != 0 {
			return code
		}
	}
	return 0
}

//go:wasmexport pulp_restored
func pulpRestored() int32 {
	restored++
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
	return answer(request.id, handle(request))
}

func handle(request request) string {
	if name, found := strings.CutPrefix(request.path, "/visits/"); found {
		q := question{name, request.method == "POST", make(chan string)}
		questions <- q
		return <-q.answer
	}
	if ms, found := strings.CutPrefix(request.path, "/alarms/"); found {
		wait, _ := strconv.Atoi(ms)
		time.AfterFunc(time.Duration(wait)*time.Millisecond, func() { rung <- struct{}{} })
		return "set"
	}
	time.Sleep(time.Millisecond) // timers that are due have their turn
	return fmt.Sprintf("%d rung, %d times restored", len(rung), restored)
}

//go:wasmexport pulp_shutdown
func pulpShutdown() int32 { return 0 }

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
