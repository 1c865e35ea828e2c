"""The events of the servers are those that the reference lists."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
EVENT = re.compile(r"[\"`]((?:server|prefork)\.[a-z_]+)[\"`]")


def test_events_are_listed_in_the_reference() -> None:
    """Each that is emitted, and no other."""
    sources = (REPOSITORY / "src/aioconc/servers").glob("*.py")
    emitted = {name for each in sources for name in EVENT.findall(each.read_text())}
    listed = EVENT.findall((REPOSITORY / "docs/reference/servers.md").read_text())
    emitted.discard("server.drain")  # the method, in the text of an error
    assert len(emitted) >= 15
    assert sorted(emitted) == sorted(listed)
