"""Nothing is lost at the end of a stream.

The client may read slowly, and may send pings, text or a close frame meanwhile.
"""

import asyncio

from harness import long_check
from raw_client import RawClient, Send, raw_client
from server import Server

KIB = 1024
SMALL_BUFFER = 4 * KIB
FULL_SPEED = float("inf")


def expect_all(client: RawClient) -> None:
    whole = client.sequence.count == 1 and client.close_code == 1000
    assert whole, f"not the message and close 1000, but: {client}"


def check_pause(what: str, send: Send) -> None:
    @long_check(f"end: 3 s without reading, then {what}, then all is read", limit=20)
    async def _(server: Server) -> str:
        async with raw_client(server.port, 1, 64 * KIB, SMALL_BUFFER) as client:
            await asyncio.sleep(3)
            await send(client)
            await client.read_to_end()
            expect_all(client)
            return str(client)


async def with_heartbeat(
    server: Server, size: int, rate: float, send: Send, interval: float
) -> None:
    async with raw_client(server.port, 1, size, SMALL_BUFFER) as client:
        heartbeat = asyncio.create_task(client.heartbeat(send, interval))
        try:
            if rate == FULL_SPEED:
                await asyncio.sleep(3)
            await client.read_to_end(rate)
        finally:
            heartbeat.cancel()
        expect_all(client)


def check_heartbeats(size: int, rate: float) -> None:
    speed = f"at {rate / KIB:g} KiB/s" if rate < FULL_SPEED else "at full speed after 3 s"

    title = f"end: {size // KIB} KiB {speed}, with pings or text every 0.1, 1 and 5 s"

    @long_check(title, limit=45)
    async def _(server: Server) -> str:
        cases = {
            f"{name} every {interval:g} s": with_heartbeat(server, size, rate, send, interval)
            for name, send in [("ping", RawClient.ping), ("text", RawClient.text)]
            for interval in [0.1, 1, 5]
        }
        results = await asyncio.gather(*cases.values(), return_exceptions=True)
        wrong = [f"{case}: {error}" for case, error in zip(cases, results) if error is not None]
        assert not wrong, f"{len(wrong)} of {len(cases)} wrong; {'; '.join(wrong)}"
        return f"the message and close 1000 in {len(cases)} of {len(cases)} cases"


check_pause("a ping", RawClient.ping)
check_pause("text", RawClient.text)
check_pause("a close frame", RawClient.close)
# Each takes 16 s at the slow rate.
for kib, slow_rate in [(64, 4 * KIB), (1024, 64 * KIB), (4096, 256 * KIB)]:
    check_heartbeats(kib * KIB, slow_rate)
    check_heartbeats(kib * KIB, FULL_SPEED)
