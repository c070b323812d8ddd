"""ws_push: messages that curl and python publish, as python websockets and node ws get them."""

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Callable
from http.client import HTTPConnection

from websockets.asyncio.client import ClientConnection, connect

from checks.curl import curl, expect_status
from harness import check
from programs import node
from server import Server

EXAMPLE = "ws_push"
# The figures of the machine come once, so that a client gets hardly anything but what is published.
NO_FIGURES = "--interval", "3600000"
TEXT = "Content-Type: text/plain"
KIB = 1024


async def clients(server: Server) -> dict:
    return json.loads((await curl(f"{server.url}/clients.json")).body)


async def until(server: Server, holds: Callable[[dict], bool]) -> dict:
    """Waits until the clients are as they should be. The limit of the check is the only one."""
    while not holds(state := await clients(server)):
        await asyncio.sleep(0.02)
    return state


async def publish(server: Server, query: str, *options: str) -> int:
    """Returns the number of the clients that get the message."""
    answer = await curl(f"{server.url}/publish{query}", *options)
    expect_status(answer, 202)
    return json.loads(answer.body)["receivers"]


@check("ws_push: python websockets and node ws get texts, bytes and rooms", *NO_FIGURES, example=EXAMPLE)
async def _(server: Server) -> str:
    live = f"{server.ws_url}/live?figures=0"
    async with connect(live) as everything, connect(f"{live}&room=a") as room:
        reading = asyncio.create_task(node("live.mjs", f"{live}&room=a", "4"))
        await until(server, lambda state: state["clients"] == 3)
        receivers = [
            await publish(server, "", "-H", TEXT, "-d", "für alle"),
            await publish(server, "?room=a", "-H", TEXT, "-d", "for a room"),
            await publish(server, "?room=b", "-H", TEXT, "-d", "for nobody"),
            await publish(server, "", "-H", "Content-Type: application/octet-stream", "-d", "bytes"),
            await publish(server, "", "-H", TEXT, "-d", ""),
        ]
        assert receivers == [3, 2, 0, 3, 3], f"{receivers}"
        expected = ["für alle", "for a room", b"bytes", ""]
        got = [await room.recv() for _ in expected]
        assert got == expected, f"{got}"
        got = [await everything.recv() for _ in range(3)]
        assert got == ["für alle", b"bytes", ""], f"{got}"
        printed = json.loads((await reading).encode("latin-1"))
        wanted = [item if isinstance(item, str) else {"bytes": item.decode()} for item in expected]
        assert printed == wanted, f"{printed}"
    return f"receivers {receivers}, node ws has {len(printed)} messages"


@check("ws_push: python websockets get the figures as JSON", "--interval", "20", example=EXAMPLE)
async def _(server: Server) -> str:
    async with connect(f"{server.ws_url}/live") as client:
        figures = [json.loads(await client.recv()) for _ in range(10)]
    assert all(figure.keys() == figures[0].keys() and figure for figure in figures), f"{figures}"
    return f"10 times {sorted(figures[0])}"


@check("ws_push: curl is told why a message is not published", "--max-message", "1000", example=EXAMPLE)
async def _(server: Server) -> str:
    url = f"{server.url}/publish"
    own, other = f"Origin: {server.url}", "Origin: http://example.org"
    for status, arguments in [
        (413, ["-d", "x" * 1001, url]),
        (202, ["-d", "x" * 1000, url]),
        (413, ["-d", "x" * 1001, "-H", "Transfer-Encoding: chunked", url]),
        (400, ["-H", TEXT, "--data-binary", "\udcff", url]),
        (400, ["-d", "x", f"{url}?room="]),
        (400, ["-d", "x", f"{url}?room=a%20b"]),
        (400, ["-d", "x", f"{url}?rooms=a"]),
        (403, ["-d", "x", "-H", other, url]),
        (202, ["-d", "x", "-H", own, url]),
        (405, [url]),
        (426, [f"{server.url}/live"]),
    ]:
        answer = await curl(*arguments)
        expect_status(answer, status)
        assert answer.body.strip(), f"{status} without a reason"
    return "202, 400, 403, 405, 413 and 426, each with a reason"


@check("ws_push: a slow python client has its name in /metrics", *NO_FIGURES, example=EXAMPLE)
async def _(server: Server) -> str:
    live = f"{server.ws_url}/live?figures=0"
    # Small, so that the kernel does not read for it.
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
    stream.setblocking(False)
    await asyncio.get_running_loop().sock_connect(stream, ("127.0.0.1", server.port))
    async with connect(live) as fast, connect(live, sock=stream, max_queue=1) as slow:
        body, sent = b"x" * (32 * KIB), 0
        while not (state := await clients(server))["slow"]:
            sent += 10
            await asyncio.to_thread(post, server, [body] * 10)
            got = [await fast.recv() for _ in range(10)]
            assert got == [body] * 10, "the fast client got other messages"
        [name] = [client["id"] for client in state["list"] if client["state"] == "slow"]
        metrics = (await curl(f"{server.url}/metrics")).body
        for metric in ["moored_push_slow_client_queued_bytes", "moored_push_slow_client_dropped"]:
            found = re.findall(rf'^{metric}{{client="(\d+)"}} [1-9]', metrics, re.MULTILINE)
            assert found == [str(name)], f"{metric}: {found}, not client {name}"
        reading = asyncio.create_task(read_all(slow))
        await until(server, lambda state: state["slow"] == 0)
    messages = await reading
    assert set(messages) == {body} and len(messages) < sent, f"{len(messages)} of {sent} messages"
    return f"client {name} was slow after {sent} messages, and no longer when it had read {len(messages)}"


async def read_all(client: ClientConnection) -> list[bytes]:
    return [message async for message in client]


def post(server: Server, bodies: list[bytes]) -> None:
    """Publishes messages on one connection."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    for body in bodies:
        connection.request("POST", "/publish", body)
        answer = connection.getresponse()
        assert answer.status == 202, f"{answer.status}: {answer.read()}"
        answer.read()
    connection.close()


@check(
    "ws_push: SIGTERM, 20 python websockets get everything and close 1001",
    *NO_FIGURES, "--queue-bytes", "16777216",
    example=EXAMPLE,
)
async def _(server: Server) -> str:
    bodies = [os.urandom(4 * KIB) for _ in range(500)]
    live = f"{server.ws_url}/live?figures=0"
    connections = [await connect(live) for _ in range(20)]
    reading = [asyncio.create_task(read_all(client)) for client in connections]
    await asyncio.to_thread(post, server, bodies)
    server.signal(signal.SIGTERM)
    received = await asyncio.gather(*reading)
    codes = {client.close_code for client in connections}
    assert codes == {1001}, f"close codes {codes}"
    assert all(messages == bodies for messages in received), f"{[len(messages) for messages in received]}"
    code = await server.exit_code()
    assert code == 0, f"exit code {code}"
    return f"20 times {len(bodies)} messages in order, close 1001, exit code 0"
