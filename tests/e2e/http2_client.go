// A client of Go's standard library, for a host that is not written with the same library as it:
//
//	http2_client URL CA.pem
//
// It asks an echo cell many times at once, sends it megabytes, and ends with "agreed", or with what went wrong.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

const (
	workers  = 40
	requests = 100
	megabyte = 1 << 20
)

var (
	url    = os.Args[1]
	client http.Client
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// body returns what an answer holds, which must be one of HTTP/2 with status 200.
func body(answer *http.Response, err error) []byte {
	check(err)
	defer answer.Body.Close()
	found, err := io.ReadAll(answer.Body)
	check(err)
	if answer.ProtoMajor != 2 || answer.StatusCode != http.StatusOK {
		check(fmt.Errorf("%s %s: %s", answer.Proto, answer.Status, found))
	}
	return found
}

func ask(word string) {
	answer, err := client.Get(url + "/echo/" + word)
	if found := body(answer, err); string(found) != word {
		check(fmt.Errorf("asked for %s, got %s", word, found))
	}
}

func send(content io.Reader, expected []byte) {
	answer, err := client.Post(url+"/echo", "application/octet-stream", content)
	if found := body(answer, err); !bytes.Equal(found, expected) {
		check(fmt.Errorf("sent %d bytes, got %d others", len(expected), len(found)))
	}
}

func main() {
	trusted, err := os.ReadFile(os.Args[2])
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusted)
	client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}

	ask("first")
	var all sync.WaitGroup
	for worker := range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for number := range requests {
				ask(fmt.Sprintf("%d-%d", worker, number))
			}
		}()
	}
	all.Wait()

	blob := make([]byte, 3*megabyte)
	rand.Read(blob)
	send(bytes.NewReader(blob), blob)
	reader, writer := io.Pipe() // then the length is not known beforehand
	go func() {
		for at := 0; at < len(blob); at += 1000 {
			writer.Write(blob[at:min(at+1000, len(blob))])
		}
		writer.Close()
	}()
	send(reader, blob)
	fmt.Println("agreed")
}
