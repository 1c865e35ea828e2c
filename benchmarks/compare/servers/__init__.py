"""Serve TCP connections that send back what they get, in this event loop or beside it.

Every answer is an async context manager that gives the port. All but the bare protocol and the ones
with threads serve with a task for each connection.
"""

BASE = "asyncio.start_server"

ANSWERS = {
    BASE: "asyncio_servers:streams",
    "loop.create_server(Protocol)": "asyncio_servers:protocol",
    "anyio listener.serve": "anyio_server:listener",
    "aioconc serve_tcp": "aioconc_servers:task",
    "aioconc serve_tcp, idle_timeout": "aioconc_servers:timed",
    "aioconc serve_tcp, threads": "aioconc_servers:thread",
    "socketserver.ThreadingTCPServer": "socketserver_server:threads",
}
"""Name in the tables -> where the answer is."""
