"""The standard library's server with a thread for each connection."""

import socketserver
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 2048
    daemon_threads = True


@asynccontextmanager
async def threads() -> AsyncIterator[int]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
