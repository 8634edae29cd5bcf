"""A process that behaves as much like xrayd as the tests of the runner need."""

import http.server
import os
import signal
import socket
import sys

port = int(sys.argv[1])
print("started with", *sys.argv[2:], flush=True)
print("HOME", os.environ["HOME"], file=sys.stderr, flush=True)
if "fail" in sys.argv:
    sys.exit(3)
if "raise" in sys.argv:
    raise ZeroDivisionError
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", port))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/receive":
            body = udp.recv(65_536)
        elif self.path == "/environment":
            body = "\n".join(sorted(os.environ)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def stop(number, frame):
    print("Got shutdown signal: terminated", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
print("listening", flush=True)
server.serve_forever()
