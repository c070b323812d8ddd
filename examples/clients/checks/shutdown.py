"""SIGTERM and SIGINT: accepted messages, then close code 1001, within the time of --grace."""

import asyncio
import signal
import time

from websockets.asyncio.client import connect

from harness import check, long_check
from raw_client import raw_client
from sequence import Sequence
from server import Server

KIB = 1024
STREAMS = 20
GRACE_SECONDS = 10
SIGNALS = [signal.SIGTERM, signal.SIGINT]


async def exit_seconds(server: Server) -> float:
    """Waits until the server has ended by itself with exit code 0."""
    begun = time.monotonic()
    code = await server.exit_code()
    assert code == 0, f"exit code {code}"
    return time.monotonic() - begun


async def read_until_closed(server: Server, reading: asyncio.Barrier) -> int:
    """Returns how many messages came before close code 1001."""
    sequence = Sequence(16 * KIB)
    async with connect(f"{server.ws_url}/stream?chunks=0&size={16 * KIB}") as client:
        sequence.add(await client.recv())
        await reading.wait()
        async for message in client:
            sequence.add(message)
    assert client.close_code == 1001, f"close {client.close_code} after {sequence}"
    return sequence.count


def check_fast_readers(number: signal.Signals) -> None:
    title = f"{number.name}: {STREAMS} python websockets get close 1001"

    @check(title, "--grace", str(GRACE_SECONDS))
    async def _(server: Server) -> str:
        reading = asyncio.Barrier(STREAMS + 1)
        clients = [asyncio.create_task(read_until_closed(server, reading)) for _ in range(STREAMS)]
        await reading.wait()
        server.signal(number)
        seconds, *counts = await asyncio.gather(exit_seconds(server), *clients)
        assert seconds < GRACE_SECONDS / 2, f"the server took {seconds:.1f} s to end"
        return f"{sum(counts)} messages in order, all close 1001, exit code 0 after {seconds:.1f} s"


def check_slow_reader(number: signal.Signals) -> None:
    title = f"{number.name}: a slow reader gets what was accepted"

    @long_check(title, "--grace", "25", limit=30)
    async def _(server: Server) -> str:
        async with raw_client(server.port, 0, 64 * KIB, 4 * KIB) as client:
            # The server has then accepted as much as it does for a client that does not read.
            await asyncio.sleep(1)
            server.signal(number)
            await asyncio.gather(client.read_to_end(256 * KIB), server.exit_code())
            assert client.close_code == 1001 and client.sequence.count > 0, f"{client}"
            code = await server.exit_code()
            assert code == 0, f"exit code {code} after {client}"
            return f"{client}"


def check_no_reader(number: signal.Signals) -> None:
    @check(f"{number.name}: a client that never reads is cut after --grace", "--grace", "2")
    async def _(server: Server) -> str:
        async with raw_client(server.port, 0, 64 * KIB):
            await asyncio.sleep(0.5)
            begun = time.monotonic()
            server.signal(number)
            code = await server.exit_code()
            seconds = time.monotonic() - begun
        assert 1.5 < seconds < 4 and code >= 0, f"exit code {code} after {seconds:.1f} s"
        return f"exit code {code} after {seconds:.1f} s"


for number in SIGNALS:
    check_fast_readers(number)
    check_slow_reader(number)
    check_no_reader(number)


@check("SIGTERM: an idle HTTP connection does not delay the end", "--grace", str(GRACE_SECONDS))
async def _(server: Server) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        server.signal(signal.SIGTERM)
        seconds = await exit_seconds(server)
    finally:
        writer.close()
    assert seconds < GRACE_SECONDS / 2, f"the server took {seconds:.1f} s to end"
    return f"exit code 0 after {seconds:.3f} s"
