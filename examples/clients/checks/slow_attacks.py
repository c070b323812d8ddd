"""slowhttptest: 1,000 clients that hold their connections and use them as slowly as they can."""

import asyncio
import re
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass

from harness import long_check
from programs import output_of
from server import Server

CONNECTIONS = 1000
# Of each attack; all of them together must not take half a minute.
SECONDS = 4
MEMORY_BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class Attack:
    option: str
    # What is slow.
    subject: str
    path: str
    # Whether the server has to bear the connections. It ends those that it refuses or has answered.
    holds: bool


async def run(attack: Attack, server: Server) -> None:
    output = await output_of(
        "slowhttptest", attack.option, "-u", server.url + attack.path, "-c", str(CONNECTIONS), "-r", str(CONNECTIONS),
        "-l", str(SECONDS), "-i", "1", "-x", "8", "-p", "3",
        # A window of a few bytes; three requests, so that the answers do not fit into it.
        *(["-w", "1", "-y", "8", "-k", "3"] if attack.option == "-X" else []),
    )
    # The output has control sequences for colours.
    output = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output)
    available = re.findall(r"service available:\s+(\w+)", output)
    assert available and set(available) == {"YES"}, f"{attack}: available {available}"
    connected = max(int(count) for count in re.findall(r"connected:\s+(\d+)", output))
    assert not attack.holds or connected == CONNECTIONS, f"{attack}: only {connected} connections"


class Onlooker:
    """Another client, which asks for the dump again and again."""

    def __init__(self) -> None:
        self.dumps = 0
        self.memory_peak = 0

    async def watch(self, server: Server) -> None:
        while True:
            await asyncio.to_thread(self._dump, server)
            self.memory_peak = max(self.memory_peak, server.resident_bytes())
            await asyncio.sleep(0.05)

    def _dump(self, server: Server) -> None:
        with urllib.request.urlopen(f"{server.url}/dump", timeout=5) as answer:
            assert answer.status == 200 and answer.read(), "no dump"
        self.dumps += 1


@contextmanager
def onlooker(server: Server):
    one = Onlooker()
    watching = asyncio.create_task(one.watch(server))
    try:
        yield one
        if watching.done():
            watching.result()
    finally:
        watching.cancel()


def check_attacks(example: str, *attacks: Attack) -> None:
    @long_check(f"{example}: slowhttptest, {CONNECTIONS} slow clients", limit=60, example=example)
    async def _(server: Server) -> str:
        before = server.resident_bytes()
        with onlooker(server) as client:
            for attack in attacks:
                await run(attack, server)
        growth = client.memory_peak - before
        assert growth < MEMORY_BYTES_MAX, f"{growth >> 20} MiB for {CONNECTIONS} connections"
        assert client.dumps > 0, "another client got no answer"
        subjects = ", ".join(attack.subject for attack in attacks)
        return f"slow {subjects}: always available, {client.dumps} dumps, {growth >> 10} KiB more memory"


HEADERS = Attack("-H", "headers", "/", holds=True)
RANGES = Attack("-R", "ranges", "/", holds=False)
READS = Attack("-X", "reads", "/page.js", holds=True)
check_attacks("http_crc", HEADERS, Attack("-B", "bodies", "/crc", holds=True), RANGES, READS)
# It takes no bodies, so these are refused at once.
check_attacks("ws_stream", HEADERS, Attack("-B", "bodies", "/", holds=False), RANGES, READS)
