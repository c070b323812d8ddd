"""http_delegate: answers of tasks to curl, wrk, h2load, python and node."""

import asyncio
import json
import re
import socket
import time
import urllib.request
from http.client import HTTPConnection, IncompleteRead

from harness import check, long_check
from programs import node, output_of
from server import Server

EXAMPLE = "http_delegate"


def numbered(size: int) -> bytes:
    """The first bytes of the lines that long answers consist of."""
    return b"".join(b"%015d\n" % line for line in range(size // 16 + 1))[:size]


def records(server: Server) -> dict:
    with urllib.request.urlopen(f"{server.url}/requests.json", timeout=5) as answer:
        return json.load(answer)


async def until_ended(server: Server, end: str, count: int) -> dict:
    """Waits until so many requests have ended so. Returns the newest of them."""
    while (seen := await asyncio.to_thread(records, server))["counts"]["ended"][end] < count:
        await asyncio.sleep(0.01)
    return next(ended for ended in seen["ended"] if ended["state"] == end)


async def curl(*options: str) -> str:
    return await output_of("curl", "-sS", "--no-buffer", *options)


@check("http_delegate: curl gets answers whole, in parts and as events", "--threads=0", example=EXAMPLE)
async def _(server: Server) -> str:
    stream = f"{server.url}/stream?parts=7&size=5000&ms=5"
    for options in [[], ["--http1.0"], ["--tr-encoding"]]:
        text = await curl(*options, stream)
        assert text.encode() == numbered(35_000), f"{options}: {len(text)} bytes"
    # HEAD, and two requests on one connection.
    head = await curl("--head", f"{server.url}/stream", f"{server.url}/work")
    assert head.count("HTTP/1.1 200 OK") == 2 and "chunked" in head, head
    sent = await curl("-o", "/dev/null", "-w", "%{num_connects}", stream, "-o", "/dev/null", f"{server.url}/work")
    assert sent == "10", f"connections: {sent}"
    work = await curl(f"{server.url}/work?ms=20&size=100")
    assert re.match(r"primes below \d+: \d+\n", work) and len(work) == 100, work
    events = await curl("-H", "Last-Event-ID: 2", f"{server.url}/events?count=4&ms=5")
    assert re.findall(r"^id: (\d+)$", events, re.MULTILINE) == ["3", "4"], events
    status = await curl("-o", "/dev/null", "-w", "%{http_code}", f"{server.url}/reject?status=451")
    assert status == "451", status
    return "parts in chunks and to HTTP/1.0, HEAD, keep-alive, events after the second one, 451"


@check("http_delegate: curl --max-time leaves, and its task sees it", example=EXAMPLE)
async def _(server: Server) -> str:
    seen = []
    targets = ["/work?ms=60000", "/stream?parts=100000&ms=50", "/events?ms=50"]
    for count, target in enumerate(targets, 1):
        try:
            await curl("-o", "/dev/null", "--max-time", "0.3", server.url + target)
            raise AssertionError("curl did not give up")
        except AssertionError as error:
            assert "exit code 28" in str(error), error
        ended = await until_ended(server, "client_gone", count)
        assert ended["task_saw"] == "connection closed", ended
        seen.append(ended["task_ended_after_us"])
    return f"the task ended {', '.join(map(str, seen))} us after the server had noticed"


@check("http_delegate: curl gets 504 with a body", "--request-timeout=1", example=EXAMPLE)
async def _(server: Server) -> str:
    text = await curl("-w", " %{http_code}", f"{server.url}/work?ms=60000")
    assert text == "the answer took too long\n 504", text
    ended = await until_ended(server, "timed_out", 1)
    assert ended["task_saw"] == "dequeued", ended
    return text


@check("http_delegate: python http.client reads chunks, and sees a cut", "--stream-timeout=1", example=EXAMPLE)
async def _(server: Server) -> str:
    def use() -> str:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.connect()
        first = connection.sock
        for parts, size in [(1, 1), (20, 3000), (3, 1 << 20)]:
            connection.request("GET", f"/stream?parts={parts}&size={size}")
            assert connection.getresponse().read() == numbered(parts * size), f"{parts} x {size}"
        assert connection.sock is first, "the connection was closed"
        connection.request("GET", "/stream?parts=100000&size=16&ms=20")
        try:
            connection.getresponse().read()
        except IncompleteRead as error:
            return f"3 answers on one connection; {error}"
        raise AssertionError("the cut was not noticed")

    return await asyncio.to_thread(use)


@check("http_delegate: a socket of python that only sends no more gets its answer", example=EXAMPLE)
async def _(server: Server) -> str:
    def use(target: str) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65_536), b""))

    answer = await asyncio.to_thread(use, "/work?ms=200")
    assert b"\r\nprimes below " in answer, answer
    answer = await asyncio.to_thread(use, "/stream?parts=3&size=10&ms=50")
    assert answer.endswith(b"\r\n0\r\n\r\n"), answer
    return "a whole answer, and one in parts"


@check("http_delegate: node fetch reads streams, cancels, and follows events", example=EXAMPLE)
async def _(server: Server) -> str:
    return await node("delegate.mjs", server.url)


@check("http_delegate: wrk and h2load with 4 loops and no worker", "--threads=0", "--loops=4", example=EXAMPLE)
async def _(server: Server) -> str:
    rates = []
    for target in ["/now", "/work?ms=0", "/stream?parts=3&size=1000"]:
        output = await output_of("wrk", "-t1", "-c64", "-d1s", server.url + target)
        wrong = re.findall(r"(?:Socket errors|Non-2xx).*", output)
        assert not wrong, f"{target}: {wrong}"
        rates.append(re.search(r"Requests/sec:\s+([0-9.]+)", output)[1])
        for pipelined in ["-m1", "-m8"]:
            output = await output_of("h2load", "--h1", "-n5000", "-c50", pipelined, server.url + target)
            statuses = re.search(r"^status codes: .*", output, re.MULTILINE)[0]
            assert " 5000 2xx" in statuses, output
    return f"{', '.join(rates)} requests/s; {statuses}"


@long_check("http_delegate: a reader of 1 KiB/s holds its task, and memory is flat", limit=30, example=EXAMPLE)
async def _(server: Server) -> str:
    def use() -> str:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            client.sendall(b"GET /stream?parts=100000&size=65536 HTTP/1.1\r\nHost: a\r\n\r\n")
            slowest, memory = 0.0, []
            for _ in range(10):
                # The reader is slow.
                time.sleep(1)
                assert client.recv(1024), "the server has closed"
                memory.append(server.resident_bytes())
                begun = time.monotonic()
                urllib.request.urlopen(f"{server.url}/work?ms=1", timeout=5).read()
                slowest = max(slowest, time.monotonic() - begun)
            live = records(server)["live"]
            assert len(live) == 1 and live[0]["state"] == "writing", live
            assert live[0]["asked"] == live[0]["written"] + 1, live
            grown = memory[-1] - memory[0]
            assert grown < 1 << 20, f"{memory}"
        return (
            f"{live[0]['written']} parts written, memory {memory[0] >> 10} to {memory[-1] >> 10} KiB, "
            f"slowest of 10 other requests {1000 * slowest:.1f} ms"
        )

    text = await asyncio.to_thread(use)
    ended = await until_ended(server, "client_gone", 1)
    assert (ended["lost"], ended["task_saw"]) == (1, "connection closed"), ended
    return f"{text}; 1 write lost"
