// images: keeps pictures, and gives them back. Every picture is a blob; nothing but os and io.
//
//	GET    /images            their names, a line each
//	PUT    /images/:name      keep one; its type is remembered -> 201, and the digest of what was kept
//	GET    /images/:name      one
//	DELETE /images/:name      -> 204
package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

const bucket = "/beta/blob/images"

func main() {
	if err := answer(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer() error {
	name, err := os.ReadFile("/request/params/name")
	if os.IsNotExist(err) {
		return list()
	}
	path := bucket + "/" + string(name)
	switch method, _ := os.ReadFile("/request/method"); string(method) {
	case "PUT":
		return keep(path)
	case "DELETE":
		if err := os.Remove(path); os.IsNotExist(err) {
			return say("404", "there is no picture of that name\n")
		} else if err != nil {
			return err
		}
		return say("204", "")
	}
	return give(path)
}

func list() error {
	entries, err := os.ReadDir(bucket)
	if err != nil {
		return err
	}
	out, err := os.Create("/response/body")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		fmt.Fprintln(out, entry.Name())
	}
	return out.Close()
}

// keep streams the request's body into a blob: it is there, whole, when it is closed.
func keep(path string) error {
	body, err := os.Open("/request/body")
	if err != nil {
		return err
	}
	blob, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(blob, body); err != nil {
		return err
	}
	if err := blob.Close(); err != nil {
		return err
	}
	if kind, err := os.ReadFile("/request/headers/content-type"); err == nil {
		if err := os.WriteFile(path+"/.meta/content-type", kind, 0o644); err != nil {
			return err
		}
	}
	digest, err := os.ReadFile(path + "/.meta/sha256")
	if err != nil {
		return err
	}
	return say("201", strings.TrimSpace(string(digest))+"\n")
}

// give streams a blob into the response; the client sees its first bytes before the last ones are read.
func give(path string) error {
	blob, err := os.Open(path)
	if os.IsNotExist(err) {
		return say("404", "there is no picture of that name\n")
	} else if err != nil {
		return err
	}
	if kind, err := os.ReadFile(path + "/.meta/content-type"); err == nil && len(kind) > 0 {
		if err := os.WriteFile("/response/headers/content-type", kind, 0o644); err != nil {
			return err
		}
	}
	out, err := os.Create("/response/body")
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, blob); err != nil {
		return err
	}
	return out.Close()
}

func say(status, text string) error {
	if err := os.WriteFile("/response/status", []byte(status), 0o644); err != nil || text == "" {
		return err
	}
	return os.WriteFile("/response/body", []byte(text), 0o644)
}
