"""Downloads a mailbox over tens of connections, and goes on later where it was stopped."""

import imaplib
import sys
from functools import partial
from pathlib import Path

from aioconc import ThreadExecutor, backoff, run, worker

LOST = (OSError, imaplib.IMAP4.abort)  # the connection, not the message


def connect(port: int) -> imaplib.IMAP4:
    box = imaplib.IMAP4("127.0.0.1", port, timeout=30)
    box.login("reader", "secret")
    box.select("INBOX", readonly=True)
    return box


def list_missing(port: int, folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    with connect(port) as box:
        uids = box.uid("search", "ALL")[1][0].decode().split()
    return [uid for uid in uids if not (folder / f"{uid}.eml").exists()]


def download(port: int, folder: Path, uids: list[str]) -> int:
    """Over one connection; run again after a failure, it goes on with what is not there yet."""
    with connect(port) as box:
        for uid in uids:
            worker.check_cancelled()  # between two messages it may be stopped
            if (folder / f"{uid}.eml").exists():
                continue
            text = box.uid("fetch", uid, "(BODY.PEEK[])")[1][0][1]
            part = folder / f"{uid}.part"
            part.write_bytes(text)
            part.rename(folder / f"{uid}.eml")  # so that no file is ever half a message
    return len(uids)


async def main(port: int, folder: Path, connections: int = 20) -> None:
    async with ThreadExecutor(connections) as threads:
        missing = await threads.run(list_missing, port, folder)
        print(f"{len(missing)} messages to fetch", flush=True)
        batches = [missing[start : start + 25] for start in range(0, len(missing), 25)]
        get = partial(download, port, folder)
        found = await threads.map(get, batches, retry=backoff(10, on=LOST), on_error="return")
    failures = [each for each in found if isinstance(each, Exception)]
    print(f"{len(found) - len(failures)} of {len(batches)} batches are here", *failures)


if __name__ == "__main__":
    run(main, int(sys.argv[1]), Path(sys.argv[2]))
