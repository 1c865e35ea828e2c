"""What travels between two processes: frames, and large buffers beside them.

Sans-I/O: the modules here turn values into bytes and back, and never wait. Shared by the process
executor and its workers. Imports next to nothing, so that a worker starts light.
"""
