"""The HTTP clients that come with python and node."""

import asyncio
from collections.abc import Callable
from http.client import HTTPConnection

from harness import check
from programs import node
from server import Server


async def with_connection(server: Server, use: Callable[[HTTPConnection], str]) -> str:
    """Runs blocking code in a thread."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        return await asyncio.to_thread(use, connection)
    finally:
        connection.close()


@check("python http.client: GET and HEAD on one connection")
async def _(server: Server) -> str:
    def use(connection: HTTPConnection) -> str:
        connection.connect()
        first = connection.sock
        statuses = []
        for method, path in [("GET", "/"), ("HEAD", "/"), ("GET", "/dump"), ("HEAD", "/dump.json")]:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, f"{method} {path}: {answer.status} {body}"
            assert (method == "HEAD") == (body == b""), f"{method} {path}: {len(body)} bytes"
            assert connection.sock is first, f"{method} {path}: the connection was closed"
            statuses.append(f"{method} {path} {answer.status}")
        return ", ".join(statuses)

    return await with_connection(server, use)


@check("python http.client: a chunked POST to a path without POST gives 405, then GET works")
async def _(server: Server) -> str:
    def use(connection: HTTPConnection) -> str:
        # An iterator has no length, so that http.client sends it in chunks.
        connection.request("POST", "/", iter([b"x" * 1000] * 10))
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 405, f"POST: {answer.status} {body}"
        allow = answer.headers["Allow"] or ""
        assert "GET" in allow, f"POST: Allow {allow!r}"
        connection.request("GET", "/")
        status = connection.getresponse().status
        assert status == 200, f"GET after POST: {status}"
        return f"POST 405, Allow: {allow}; GET {status}"

    return await with_connection(server, use)


@check("node fetch: GET, HEAD, POST, If-None-Match")
async def _(server: Server) -> str:
    return await node("fetch.mjs", server.url)
