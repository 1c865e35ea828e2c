"""A small IMAP server on this machine, for the mailbox: one user, one folder, real dialogue.

It knows what a client that reads needs (RFC 3501: CAPABILITY, NOOP, LOGIN, SELECT, EXAMINE, UID SEARCH,
UID FETCH, LOGOUT). Like servers outside it allows so many connections, and now and then loses one.
"""

import asyncio
import re
import sys

MOST = 30  # connections


class Mailbox:
    def __init__(self, messages: int, drop_every: int) -> None:
        self.messages = {1000 + number: self._write(number) for number in range(messages)}
        self.drop_every = drop_every
        self.connections = self.fetched = 0

    @staticmethod
    def _write(number: int) -> bytes:
        head = (
            f"From: a@example.org\r\nSubject: message {number}\r\nMessage-ID: <{number}@x>\r\n\r\n"
        )
        return head.encode() + b"x" * 2000 + b"\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.connections > MOST:
                writer.write(b"* BYE too many connections\r\n")
            else:
                writer.write(b"* OK IMAP4rev1 ready\r\n")
                await self._talk(reader, writer)
        except ConnectionError:
            pass  # the client went
        finally:
            self.connections -= 1
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = False
        while line := await reader.readline():
            tag, command, *rest = line.decode().strip().split(" ", 2)
            command, words = command.upper(), rest[0] if rest else ""
            good = True
            if command == "UID":
                command, _, words = words.partition(" ")
                command = f"UID {command.upper()}"
            if command == "LOGIN":
                known = good = words == 'reader "secret"'
            elif command == "CAPABILITY":
                writer.write(b"* CAPABILITY IMAP4rev1\r\n")
            elif command == "LOGOUT":
                writer.write(f"* BYE\r\n{tag} OK done\r\n".encode())
                return
            elif not known:
                good = False
            elif command in ("SELECT", "EXAMINE"):
                writer.write(
                    f"* {len(self.messages)} EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n".encode()
                )
            elif command == "UID SEARCH":
                writer.write(f"* SEARCH {' '.join(map(str, self.messages))}\r\n".encode())
            elif command == "UID FETCH":
                for uid in map(int, re.findall(r"\d+", words.split("(")[0])):
                    self.fetched += 1
                    if self.drop_every and self.fetched % self.drop_every == 0:
                        writer.transport.abort()
                        return
                    await asyncio.sleep(0.01)  # stands for the way there and back
                    text = self.messages[uid]
                    writer.write(f"* 1 FETCH (UID {uid} BODY[] {{{len(text)}}}\r\n".encode())
                    writer.write(text + b")\r\n")
            elif command != "NOOP":
                good = False
            writer.write(f"{tag} {'OK' if good else 'NO'} done\r\n".encode())
            await writer.drain()


async def main(messages: int, drop_every: int) -> None:
    box = Mailbox(messages, drop_every)
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until whoever started it goes


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
