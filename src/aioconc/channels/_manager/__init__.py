"""Locks, queues and tables for the processes of one scope, through a broker in the owner's loop.

`_broker` decides and knows no sockets: connections, parties, requests, and what becomes of them
when a party ends. `_locks`, `_meeting`, `_queues` and `_tables` are the things that it keeps.
`_server` is its end of the connections, `_client` and the links are the other end, and the
`_shared_*` files are what programs hold.
"""
