"""Servers that never take more than they can serve, and end in order.

`serve_tcp` serves connections by tasks, threads or processes; `serve_prefork` keeps several worker
processes at the same port. For HTTP there are servers with a wider horizon, such as uvicorn and
granian; an aiohttp application runs under `serve_prefork`.
"""

from aioconc._internal._public import publish
from aioconc.servers._connection import Connection
from aioconc.servers._prefork import serve_prefork
from aioconc.servers._ready import ready
from aioconc.servers._server import ServerStatistics, TcpServer
from aioconc.servers._tcp import serve_tcp

__all__ = [
    "Connection",
    "ServerStatistics",
    "TcpServer",
    "ready",
    "serve_prefork",
    "serve_tcp",
]

publish(globals())
