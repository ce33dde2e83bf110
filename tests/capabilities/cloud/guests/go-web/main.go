// A function that reads and writes files, and knows nothing of the host.
package main

import (
	"encoding/json"
	"os"
	"strings"
)

func main() {
	text, err := os.ReadFile("/request/json")
	if err != nil {
		panic(err)
	}
	var request struct{ Method, Path, Body string }
	if err := json.Unmarshal(text, &request); err != nil {
		panic(err)
	}
	names := []string{}
	entries, err := os.ReadDir("/request/headers")
	if err != nil {
		panic(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if err := os.WriteFile("/response/status", []byte("202"), 0o600); err != nil {
		panic(err)
	}
	if err := os.WriteFile("/response/headers/x-names", []byte(strings.Join(names, " ")), 0o600); err != nil {
		panic(err)
	}
	answer := request.Method + " " + request.Path + " " + request.Body
	if err := os.WriteFile("/response/body", []byte(answer), 0o600); err != nil {
		panic(err)
	}
}
