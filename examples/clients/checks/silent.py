"""Thousands of connections that send nothing."""

import asyncio
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection

from harness import check
from raw_client import raw_client
from server import Server

CONNECTIONS = 5000
DUMPS = 20


@asynccontextmanager
async def silent_connections(server: Server) -> AsyncIterator[list[socket.socket]]:
    loop = asyncio.get_running_loop()
    clients = []
    try:
        for _ in range(CONNECTIONS):
            client = socket.socket()
            clients.append(client)
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", server.port))
        yield clients
    finally:
        for client in clients:
            client.close()


def dump_seconds(server: Server) -> float:
    """The time of one request on a connection of its own."""
    begun = time.monotonic()
    connection = HTTPConnection("127.0.0.1", server.port, timeout=15)
    try:
        connection.request("GET", "/dump")
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, f"/dump: {answer.status} {body}"
    return time.monotonic() - begun


async def expect_quick_dumps(server: Server) -> str:
    times = [await asyncio.to_thread(dump_seconds, server) for _ in range(DUMPS)]
    median = 1000 * statistics.median(times)
    most = 1000 * max(times)
    printed = f"/dump took {median:.1f} ms (median), {most:.1f} ms (most)"
    # A single time may be that of a busy machine.
    assert median <= 100 and most <= 1000, printed
    return printed


def is_open(client: socket.socket) -> bool:
    """Whether nothing has come from the server, not even the end."""
    try:
        client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


@check(f"silent: {CONNECTIONS} connections, enough sockets", "--max-connections=6000", limit=30)
async def _(server: Server) -> str:
    # Before the first client: the server may not have closed the connection of the dump yet.
    sockets = server.sockets()
    await asyncio.to_thread(dump_seconds, server)
    memory = server.resident_bytes()
    async with silent_connections(server) as clients:
        while server.sockets() < sockets + CONNECTIONS:
            await asyncio.sleep(0.01)
        printed = await expect_quick_dumps(server)
        each = (server.resident_bytes() - memory) / CONNECTIONS
        printed = f"{each:.0f} bytes for each connection, {printed}"
        assert each < 4096, printed
        lost = sum(not is_open(client) for client in clients)
        assert lost == 0, f"{lost} of them were closed"
        return printed


@check(f"silent: {CONNECTIONS} connections, not enough sockets", "--max-connections=4096", limit=30)
async def _(server: Server) -> str:
    async with (
        raw_client(server.port, 0, 64 * 1024) as stream,
        silent_connections(server) as clients,
    ):
        printed = await expect_quick_dumps(server)
        still_open = [is_open(client) for client in clients]
        ended = await stream.read(1)
        # More than can have been under way before.
        assert not ended and stream.bytes > 16 << 20, f"the stream of before: {stream}"
    closed = CONNECTIONS - sum(still_open)
    oldest = all(still_open[closed:])
    right = 0 < closed < CONNECTIONS / 2 and oldest
    assert right, f"closed: {closed}, only the oldest: {oldest}; {printed}"
    return f"the {closed} oldest were closed; {printed}; a stream of before goes on"
