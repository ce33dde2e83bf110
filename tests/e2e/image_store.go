// An image store: it uses files, and knows nothing of what is behind them.
//
//	PUT /images/<name>            keeps the body; its Content-Type beside it
//	GET /images/<name>[?from=N]   gives it back, from byte N on
//	DELETE, POST (Destination)    removes it, renames it
//	GET /images/                  lists every name below, with sizes
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const root = "/beta/blob/photos"

func fail(err error) {
	status := 500
	switch {
	case errors.Is(err, fs.ErrNotExist):
		status = 404
	case errors.Is(err, fs.ErrPermission):
		status = 403
	}
	fmt.Printf("Status: %d\r\nContent-Type: text/plain\r\n\r\n%v", status, err)
	os.Exit(0)
}

func keep(name string) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		fail(err)
	}
	file, err := os.Create(name)
	if err != nil {
		fail(err)
	}
	size, err := io.Copy(file, os.Stdin)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		fail(err)
	}
	if kind := os.Getenv("CONTENT_TYPE"); kind != "" {
		if err := os.WriteFile(name+"/.meta/content-type", []byte(kind), 0o644); err != nil {
			fail(err)
		}
	}
	sum, err := os.ReadFile(name + "/.meta/sha256")
	if err != nil {
		fail(err)
	}
	fmt.Printf("Status: 201\r\nContent-Type: text/plain\r\n\r\n%d %s", size, sum)
}

func give(name string) {
	file, err := os.Open(name)
	if err != nil {
		fail(err)
	}
	kind, err := os.ReadFile(name + "/.meta/content-type")
	if err != nil {
		fail(err)
	}
	if from, found := strings.CutPrefix(os.Getenv("QUERY_STRING"), "from="); found {
		offset, _ := strconv.ParseInt(from, 10, 64)
		if _, err := file.Seek(offset, io.SeekStart); err != nil {
			fail(err)
		}
	}
	fmt.Printf("Content-Type: %s\r\n\r\n", kind)
	if _, err := io.Copy(os.Stdout, file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func list() {
	fmt.Print("Content-Type: text/plain\r\n\r\n")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			fmt.Printf("%s %d\n", strings.TrimPrefix(path, root+"/"), info.Size())
		}
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
}

func main() {
	path, _ := os.ReadFile("/request/path")
	name := strings.TrimPrefix(string(path), "/images/")
	switch os.Getenv("REQUEST_METHOD") {
	case "PUT":
		keep(filepath.Join(root, name))
	case "DELETE":
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			fail(err)
		}
		fmt.Print("Status: 204\r\n\r\n")
	case "POST":
		if err := os.Rename(filepath.Join(root, name), filepath.Join(root, os.Getenv("HTTP_DESTINATION"))); err != nil {
			fail(err)
		}
		fmt.Print("Status: 204\r\n\r\n")
	default:
		if name == "" {
			list()
		} else {
			give(filepath.Join(root, name))
		}
	}
}
