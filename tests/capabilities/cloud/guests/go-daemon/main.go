// A daemon that reads lines and writes files.
package main

import (
	"bufio"
	"fmt"
	"os"
)

func main() {
	file, err := os.Open("/accept")
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(file)
	for served := 1; lines.Scan(); served++ {
		var kind string
		var number int
		fmt.Sscan(lines.Text(), &kind, &number)
		path, err := os.ReadFile(fmt.Sprintf("/conn/%d/request/path", number))
		if err != nil {
			panic(err)
		}
		answer := fmt.Appendf(nil, "%d %s", served, path)
		if err := os.WriteFile(fmt.Sprintf("/conn/%d/response/body", number), answer, 0o600); err != nil {
			panic(err)
		}
	}
}
