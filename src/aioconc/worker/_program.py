"""What a process does that is started to run one program of ours, rather than calls.

Started as a worker is, with its socket, the pipe that ends with its parent, and whatever else it
inherits, by number. The first frame says where modules are found and what the program is; the rest
is left to that.
"""

from _pickle import loads
from _socket import socket

from aioconc._wire._body import load
from aioconc.worker._boot import begin, die_with_parent, take_surroundings
from aioconc.worker._cord import Cord


def main(sock: int, life: int, *inherited: int) -> None:
    """Set up, then run the program: `program(cord, setup, inherited)`.

    Args:
        sock: this end of the socket to the parent.
        life: a pipe that ends when the parent does.
        *inherited: descriptors for the program.
    """
    begin(sock, life, *inherited)
    die_with_parent(life)
    cord = Cord(socket(fileno=sock))  # type: ignore[arg-type]  # `socket` loads selectors
    _, _, payload, _ = cord.next()
    setup = load(payload)
    take_surroundings(setup)
    loads(setup["program"])(cord, setup, inherited)
