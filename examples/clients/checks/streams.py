"""python websockets and node ws, unmodified, with their default keep-alive.

python websockets sends a ping every 20 s and gives up if the pong takes 20 s; node ws only answers
pings.
"""

import asyncio
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from harness import check, long_check
from programs import node
from sequence import Sequence
from server import Server
from slow_link import slow_link

KIB = 1024
MIB = 1024 * KIB


async def python_stream(url: str, chunks: int, size: int) -> str:
    sequence = Sequence(size)
    # The default refuses messages above 1 MiB.
    async with connect(f"{url}/stream?chunks={chunks}&size={size}", max_size=None) as client:
        try:
            async for message in client:
                sequence.add(message)
        except ConnectionClosedError as error:
            raise AssertionError(f"{error} after {sequence}") from error
    return f"{sequence}, close {client.close_code}"


async def node_stream(url: str, chunks: int, size: int) -> str:
    output = await node("stream.mjs", f"{url}/stream?chunks={chunks}&size={size}", str(size))
    return output.strip()


CLIENTS = {"python websockets": python_stream, "node ws": node_stream}


def check_full_speed(name: str, chunks: int, size: int) -> None:
    @check(f"{name}: {chunks} messages of {size} bytes at full speed")
    async def _(server: Server) -> str:
        printed = await CLIENTS[name](server.ws_url, chunks, size)
        assert printed == f"{chunks} messages of {size} bytes, close 1000", printed
        return printed


def check_slow_link(name: str, chunks: int, size: int, rate: int) -> None:
    seconds = chunks * size / rate
    title = f"{name}: {chunks} messages of {size} bytes at {rate // KIB} KiB/s"

    @long_check(title, limit=seconds + 30)
    async def _(server: Server) -> str:
        begun = time.monotonic()
        async with slow_link(server.port, rate) as port:
            printed = await CLIENTS[name](f"ws://127.0.0.1:{port}", chunks, size)
        assert printed == f"{chunks} messages of {size} bytes, close 1000", printed
        assert time.monotonic() - begun > 0.9 * seconds, "the link was not slow"
        return printed


for client in CLIENTS:
    check_full_speed(client, 20_000, KIB)
    check_full_speed(client, 1000, 64 * KIB)
    check_full_speed(client, 16, 4 * MIB)
    check_slow_link(client, 16, MIB, 200 * KIB)
    check_slow_link(client, 12, 4 * MIB, 2048 * KIB)


@check("python websockets: the client closes an endless stream")
async def _(server: Server) -> str:
    sequence = Sequence(KIB)
    async with connect(f"{server.ws_url}/stream?chunks=0&size={KIB}") as client:
        for _ in range(100):
            sequence.add(await client.recv())
        begun = time.monotonic()
        closing = asyncio.create_task(client.close())
        # With its queue of messages full, the client would not read the close frame.
        async for message in client:
            sequence.add(message)
        await closing
        seconds = time.monotonic() - begun
    received = client.protocol.close_rcvd
    assert received is not None and received.code == 1000, f"close frame of the server: {received}"
    assert seconds < 2, f"the close took {seconds:.1f} s"
    return f"{sequence}, then close 1000 from both in {seconds:.3f} s"
