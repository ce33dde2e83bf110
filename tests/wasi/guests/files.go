// An ordinary program in Go: it uses files below "/" as any other would.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(is bool, what string) {
	if !is {
		panic(what)
	}
}

func main() {
	check(strings.Join(os.Args[1:], " ") == "one two", "arguments")
	check(os.Getenv("GREETING") == "hi", "environment")
	given, err := io.ReadAll(os.Stdin)
	must(err)
	check(string(given) == "from stdin\n", "standard input")

	must(os.WriteFile("/kept", []byte("hello from Go"), 0o600))
	content, err := os.ReadFile("/kept")
	must(err)
	check(string(content) == "hello from Go", "content")
	_, err = os.ReadFile("/none")
	check(errors.Is(err, fs.ErrNotExist), "a file that is not there")

	must(os.MkdirAll("/a/b/c", 0o700))
	for at := 0; at < 300; at++ {
		must(os.WriteFile(fmt.Sprintf("/a/b/file-%03d", at), []byte{byte(at)}, 0o600))
	}
	entries, err := os.ReadDir("/a/b")
	must(err)
	check(len(entries) == 301, "entries")
	must(os.Rename("/a/b", "/a/moved"))
	_, err = os.Stat("/a/b")
	check(errors.Is(err, fs.ErrNotExist), "a folder that was moved")
	must(os.Symlink("moved/file-007", "/a/link"))
	content, err = os.ReadFile("/a/link")
	must(err)
	check(content[0] == 7, "through a link")

	file, err := os.OpenFile("/a/log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(err)
	for _, word := range []string{"one", "two"} {
		_, err = fmt.Fprintln(file, word)
		must(err)
	}
	must(file.Close())
	known, err := os.Stat("/a/log")
	must(err)
	check(known.Size() == 8 && time.Since(known.ModTime()) < time.Hour, "what is known")
	must(os.Truncate("/a/log", 3))
	_, err = os.OpenFile("/a/log", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	check(errors.Is(err, fs.ErrExist), "exclusively")

	var walked []string
	must(filepath.WalkDir("/a", func(path string, _ fs.DirEntry, err error) error {
		walked = append(walked, path)
		return err
	}))
	check(len(walked) == 305 && sort.StringsAreSorted(walked), "walking")
	began := time.Now()
	time.Sleep(20 * time.Millisecond)
	check(time.Since(began) >= 20*time.Millisecond, "sleeping")
	must(os.RemoveAll("/a"))
	_, err = os.Stat("/a")
	check(errors.Is(err, fs.ErrNotExist), "removed")
	fmt.Println("all as it should be")
}
