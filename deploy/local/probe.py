"""Asking a part of the stack over HTTP, without the weight of a client library in the supervisor."""

from __future__ import annotations

import asyncio


async def http_status(port: int, path: str) -> int | None:
    """The status of a GET on 127.0.0.1, or None when nobody answers within two seconds."""

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    try:
        return await asyncio.wait_for(ask(), 2.0)
    except (OSError, TimeoutError, IndexError, ValueError):
        return None
