"""Reads the body of an answer up to a size, so that no server decides how much memory we use.

Counted is what arrives unpacked: a small compressed body may unpack to gigabytes. A body that is
too large is not read to its end; the connection is given up with it.
"""

import aiohttp

_CHUNK = 65536


class TooLarge(Exception):
    """The body of a page is larger than the crawl reads."""


async def read_text(response: aiohttp.ClientResponse, most: int) -> str:
    """The body as text; raises `TooLarge` if it has more than `most` bytes."""
    announced = response.content_length
    if announced is not None and announced > most:
        raise TooLarge(f"the page has {announced:,} bytes, more than the {most:,} that are read")
    body, whole = await read_start(response, most)
    if not whole:
        raise TooLarge(f"the page has more than the {most:,} bytes that are read")
    try:
        return body.decode(response.charset or "utf-8")
    except LookupError:  # a character set that nobody has heard of
        return body.decode("utf-8")


async def read_start(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The first `most` bytes of the body, and whether that is all of it."""
    body = bytearray()
    async for part in response.content.iter_chunked(_CHUNK):
        body += part
        if len(body) > most:
            response.close()  # else the connection would be kept, with the rest to come
            return bytes(body[:most]), False
    return bytes(body), True
