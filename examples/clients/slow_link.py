"""A TCP proxy that limits the rate towards the client, like a slow network."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

# Of each socket of the proxy. With the default, the kernel would take in megabytes at once.
BUFFER_BYTES = 32 * 1024
# Read and passed on at once.
PIECE_BYTES = 8 * 1024


@asynccontextmanager
async def slow_link(server_port: int, bytes_per_second: float) -> AsyncIterator[int]:
    """The port of a proxy to the server."""
    listener = _small_socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    accepting = asyncio.create_task(_accept(listener, server_port, bytes_per_second))
    try:
        yield listener.getsockname()[1]
    finally:
        accepting.cancel()
        await asyncio.wait([accepting])
        listener.close()


def _small_socket() -> socket.socket:
    new = socket.socket()
    new.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    new.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    return new


async def _accept(listener: socket.socket, server_port: int, bytes_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as connections:
        while True:
            client, _ = await loop.sock_accept(listener)
            server = _small_socket()
            server.setblocking(False)
            await loop.sock_connect(server, ("127.0.0.1", server_port))
            connections.create_task(_connection(client, server, bytes_per_second))


async def _connection(client: socket.socket, server: socket.socket, rate: float) -> None:
    with client, server:
        await asyncio.gather(_copy(client, server, float("inf")), _copy(server, client, rate))


async def _copy(source: socket.socket, target: socket.socket, rate: float) -> None:
    """Copies until the source ends; a reset of either side ends the copy, too."""
    loop = asyncio.get_running_loop()
    due = time.monotonic()
    try:
        while data := await loop.sock_recv(source, PIECE_BYTES):
            await loop.sock_sendall(target, data)
            # After a pause the rate does not rise.
            due = max(due, time.monotonic()) + len(data) / rate
            await asyncio.sleep(due - time.monotonic())
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            # Ends the other direction, too.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
