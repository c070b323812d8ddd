"""The idle rule: a client is alive while its kernel acknowledges bytes, and not while it only sends."""

import asyncio
import time

from harness import long_check
from raw_client import raw_client
from server import Server

KIB = 1024


def check_slow_reader(rate: int, idle_timeout: int, seconds: int) -> None:
    title = f"idle: {rate // KIB} KiB/s keep a connection for {seconds} s"
    options = "--idle-timeout", str(idle_timeout)

    @long_check(title, *options, limit=seconds + 20)
    async def _(server: Server) -> str:
        before = server.sockets()
        async with raw_client(server.port, 0, KIB) as client:
            for second in range(seconds):
                ended = await client.read(1, rate)
                cut = ended or server.sockets() <= before
                assert not cut, f"cut after {second + 1} s and {client}"
            return f"{' '.join(options)}: {client} in {seconds} s"


# The server sees progress only when the kernel of the client opens the receive window again. On
# the loopback device this happens once in about 128 KiB: every 32 s at 4 KiB/s.
check_slow_reader(4 * KIB, 40, 82)
check_slow_reader(16 * KIB, 20, 50)
check_slow_reader(64 * KIB, 6, 20)


@long_check("idle: a client that reads nothing is cut", "--idle-timeout", "6", limit=30)
async def _(server: Server) -> str:
    before = server.sockets()
    begun = time.monotonic()
    async with raw_client(server.port, 0, KIB):
        while server.sockets() > before:
            await asyncio.sleep(0.1)
    seconds = time.monotonic() - begun
    assert 5 < seconds < 13, f"cut after {seconds:.1f} s with --idle-timeout 6"
    return f"cut after {seconds:.1f} s with --idle-timeout 6"
