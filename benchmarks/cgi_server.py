"""A plain CGI server on the standard library: one process for each request.

python -m benchmarks.cgi_server PORT PROGRAM
"""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Cgi(BaseHTTPRequestHandler):
    """Runs the program for a GET, and sends what it prints."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer with what the program prints."""
        path, _, query = self.path.partition("?")
        environment = {
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_ADDR": self.client_address[0],
        }
        done = subprocess.run(
            [sys.argv[2]], env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
        )
        head, _, body = done.stdout.partition(b"\n\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            self.send_header(*line.split(": ", 1))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing: an access log would be measured too."""


class Server(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Cgi).serve_forever()
