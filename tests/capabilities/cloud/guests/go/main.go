// Does with files what lines on standard input say, and answers each with a line: `ok …` or `err <errno>`.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var files = map[string]*os.File{}

func answer(err error) string {
	var number syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &number):
		return fmt.Sprintf("err %d", int(number))
	default:
		return "err " + err.Error()
	}
}

func show(data []byte, err error) string {
	if err != nil && err != io.EOF {
		return answer(err)
	}
	return "ok " + strings.ReplaceAll(string(data), "\n", "|")
}

func flagsOf(letters string) int {
	flags := os.O_RDONLY
	if strings.Contains(letters, "+") {
		flags = os.O_RDWR
	} else if strings.Contains(letters, "w") {
		flags = os.O_WRONLY
	}
	for letter, flag := range map[string]int{"c": os.O_CREATE, "x": os.O_EXCL, "t": os.O_TRUNC, "a": os.O_APPEND, "d": syscall.O_DIRECTORY} {
		if strings.Contains(letters, letter) {
			flags |= flag
		}
	}
	return flags
}

func add(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func list(path string) string {
	folder, err := os.Open(path)
	if err != nil {
		return answer(err)
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return answer(err)
	}
	found := "ok"
	for _, entry := range entries {
		found += " " + entry.Name()
		if entry.IsDir() {
			found += "/"
		}
	}
	return found
}

func status(path string) string {
	found, err := os.Stat(path)
	if err != nil {
		return answer(err)
	}
	kind := "file"
	if found.IsDir() {
		kind = "folder"
	}
	sys := found.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("ok %s %d %d %d", kind, found.Size(), sys.Ctime, sys.Ino)
}

func onSlot(act, slot, rest string) string {
	file := files[slot]
	number, _ := strconv.Atoi(rest)
	switch act {
	case "write":
		_, err := file.WriteString(rest)
		return answer(err)
	case "read":
		data := make([]byte, number)
		size, err := file.Read(data)
		return show(data[:size], err)
	case "seek":
		_, err := file.Seek(int64(number), io.SeekStart)
		return answer(err)
	case "cut":
		return answer(file.Truncate(int64(number)))
	case "sync":
		return answer(file.Sync())
	default:
		return answer(file.Close())
	}
}

func act(line string) string {
	words := append(strings.SplitN(line, " ", 3), "", "")
	first, rest := words[1], words[2]
	switch words[0] {
	case "open":
		letters, path, _ := strings.Cut(rest, " ")
		file, err := os.OpenFile(path, flagsOf(letters), 0o666)
		files[first] = file
		return answer(err)
	case "put":
		return answer(os.WriteFile(first, []byte(rest), 0o666))
	case "add":
		return answer(add(first, rest))
	case "get":
		return show(os.ReadFile(first))
	case "ls":
		return list(first)
	case "stat":
		return status(first)
	case "rm":
		return answer(syscall.Unlink(first))
	case "mkdir":
		return answer(os.Mkdir(first, 0o777))
	case "rmdir":
		return answer(syscall.Rmdir(first))
	case "mv":
		return answer(os.Rename(first, rest))
	case "touch":
		now := time.Now()
		return answer(os.Chtimes(first, now, now))
	case "exit":
		status, _ := strconv.Atoi(first)
		os.Exit(status)
	}
	return onSlot(words[0], first, rest)
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(act(lines.Text()))
	}
}
