"""The same with `socketserver`."""

import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65_536):
            self.request.sendall(data)


SERVERS = {
    "iterate": socketserver.TCPServer,
    "thread": socketserver.ThreadingTCPServer,  # as many threads as clients like
    "process": socketserver.ForkingTCPServer,  # at most 40 children, then nobody is served at all
}

if __name__ == "__main__":
    way = sys.argv[1] if len(sys.argv) > 1 else "thread"
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 7007
    with SERVERS[way](("127.0.0.1", port), Echo) as server:
        print(f"{way}: listening on port {server.server_address[1]}", flush=True)
        server.serve_forever()
