// Command chat is a Pulp cell in which everybody hears what anybody says.
//
//	GET /                       the page
//	GET /chat?name=, upgraded   one line a message: a name, a tab, what was said; notices have no name
package main

import (
	_ "embed"
	"encoding/binary"
	"strings"
	"unicode/utf8"
	"unsafe"
)

const (
	envelopeHeader = 20 // call number u64, wall time u64, payload length u32
	nameBytes      = 64
	textBytes      = 4000
	historyLines   = 20
	opText         = 1
)

//go:embed index.html
var page []byte

//go:wasmimport pulp http_register
func httpRegister(request unsafe.Pointer, length uint32) int32

//go:wasmimport pulp http_respond
func httpRespond(response unsafe.Pointer, length uint32) int32

//go:wasmimport pulp ws_register
func wsRegister(path unsafe.Pointer, length uint32) int32

//go:wasmimport pulp ws_send
func wsSend(message unsafe.Pointer, length uint32) int32

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
	w.text("path").text("/")
	if code := send(httpRegister, w.out); code != 0 {
		return 100 + code
	}
	if code := send(wsRegister, []byte("/chat")); code != 0 {
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
	if kind == "http.request" {
		return showPage(payload)
	}
	event, ok := decodeWs(payload)
	if !ok {
		return 3
	}
	switch {
	case kind == "ws.open":
		join(event.connID, string(event.name))
	case kind == "ws.close":
		leave(event.connID)
	case kind == "ws.frame" && event.opcode == opText:
		say(event.connID, string(event.payload))
	}
	return 0
}

//go:wasmexport pulp_shutdown
func pulpShutdown() int32 { return 0 }

func send(to func(unsafe.Pointer, uint32) int32, out []byte) int32 {
	return to(unsafe.Pointer(unsafe.SliceData(out)), uint32(len(out)))
}

func showPage(payload []byte) int32 {
	request, ok := decodeRequest(payload)
	if !ok {
		return 3
	}
	var w writer
	w.head(0x80, 4)
	w.text("id").number(request.id)
	w.text("status").number(200)
	w.text("headers").head(0x80, 1).text("Content-Type").text("text/html; charset=utf-8")
	w.text("body").binary(page)
	if code := send(httpRespond, w.out); code != 0 {
		return 300 + code
	}
	return 0
}

// members are the names of those who are there.
var members = map[uint64]string{}

// history is what was said last, oldest first.
var history []string

// message is reused: an import has read it by the time it returns.
var message writer

func tell(connID uint64, line string) {
	w := &message
	w.out = w.out[:0]
	w.head(0x80, 3)
	w.text("conn_id").number(connID)
	w.text("opcode").number(opText)
	w.text("payload").binary([]byte(line))
	send(wsSend, w.out) // 4 when the client has just left: its ws.close is on the way
}

func tellAll(line string) {
	history = append(history, line)
	if len(history) > historyLines {
		history = history[1:]
	}
	for connID := range members {
		tell(connID, line)
	}
}

func join(connID uint64, name string) {
	for _, line := range history {
		tell(connID, line)
	}
	members[connID] = cleaned(name)
	tellAll("\t" + members[connID] + " came in")
}

func leave(connID uint64) {
	name, there := members[connID]
	if !there {
		return // it came to an earlier instance of this cell
	}
	delete(members, connID)
	tellAll("\t" + name + " left")
}

func say(connID uint64, text string) {
	if name, there := members[connID]; there && text != "" && len(text) <= textBytes {
		tellAll(name + "\t" + text)
	}
}

// cleaned cuts a name where a character begins; it has no tab.
func cleaned(name string) string {
	if name == "" {
		return "somebody"
	}
	if len(name) > nameBytes {
		cut := nameBytes
		for cut > 0 && !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, name)
}

func main() {}
