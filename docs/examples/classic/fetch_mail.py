"""The same over one connection, into one file."""

import imaplib
import sys
from pathlib import Path

if __name__ == "__main__":
    port, target = int(sys.argv[1]), Path(sys.argv[2])
    box = imaplib.IMAP4("127.0.0.1", port)
    box.login("reader", "secret")
    box.select("INBOX", readonly=True)
    uids = box.uid("search", "ALL")[1][0].decode().split()
    with target.open("wb") as file:
        for uid in uids:  # a lost connection ends it all, and the next run begins anew
            file.write(box.uid("fetch", uid, "(BODY.PEEK[])")[1][0][1])
    box.logout()
    print(f"{len(uids)} messages are here")
