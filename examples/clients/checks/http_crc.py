"""http_crc: digests of uploads by curl, wrk, h2load, python and node."""

import asyncio
import json
import os
import re
import tempfile
import zlib
from http.client import HTTPConnection

from harness import check
from programs import node, output_of
from server import Server

EXAMPLE = "http_crc"
# Many pieces, and no multiple of one.
UPLOAD_BYTES = (8 << 20) + 12_345


def digest(body: bytes) -> str:
    return f"{zlib.crc32(body):08x}"


@check("http_crc: curl uploads with 100-continue, in chunks, and too long", "--max-body=9M", example=EXAMPLE)
async def _(server: Server) -> str:
    body = os.urandom(UPLOAD_BYTES)
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        chunked = ["--header", "Transfer-Encoding: chunked"]
        for options in [[], chunked, ["--http1.0"], ["--header", "Expect:"]]:
            url = f"{server.url}/crc"
            text = await output_of("curl", "-sS", "-X", "POST", *options, "-T", file.name, url)
            assert text.strip() == digest(body), f"{options}: {text}, not {digest(body)}"
        text = await output_of("curl", "-sS", "--data-binary", f"@{file.name}", server.url)
        assert json.loads(text) == {"crc32": digest(body), "length": len(body)}, text
        file.write(os.urandom(2 << 20))
        file.flush()
        for options in [[], chunked]:
            status = await output_of(
                "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", *options, "-T", file.name, url
            )
            assert status == "413", f"{options}: {status}"
    return f"5 times {digest(body)}, 2 times 413"


@check("http_crc: wrk and h2load send 1 KiB to /crc", example=EXAMPLE)
async def _(server: Server) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script, tempfile.NamedTemporaryFile() as body:
        script.write('wrk.method = "POST"\nwrk.body = string.rep("x", 1024)\n')
        script.flush()
        body.write(b"x" * 1024)
        body.flush()
        url = f"{server.url}/crc"
        output = await output_of("wrk", "-t1", "-c64", "-d2s", "-s", script.name, url)
        wrong = re.findall(r"(?:Socket errors|Non-2xx).*", output)
        assert not wrong, f"{wrong}"
        rate = re.search(r"Requests/sec:\s+([0-9.]+)", output)[1]
        for pipelined in ["-m1", "-m8"]:
            output = await output_of("h2load", "--h1", "-n20000", "-c50", pipelined, "-d", body.name, url)
            statuses = re.search(r"^status codes: .*", output, re.MULTILINE)[0]
            assert " 20000 2xx" in statuses, output
    return f"{rate} requests/s; {statuses}"


@check("http_crc: python http.client sends bodies after their heads", example=EXAMPLE)
async def _(server: Server) -> str:
    def use() -> str:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.connect()
        first = connection.sock
        for length in [0, 1, 1000, 262_144, 1_000_000]:
            body = os.urandom(length)
            # An iterator is sent in chunks.
            for sent in [body, iter([body[at : at + 50_000] for at in range(0, length, 50_000)])]:
                connection.request("POST", "/", sent)
                answer = json.loads(connection.getresponse().read())
                assert answer == {"crc32": digest(body), "length": length}, f"{length}: {answer}"
        assert connection.sock is first, "the connection was closed"
        connection.close()
        return "10 digests on one connection"

    return await asyncio.to_thread(use)


@check("http_crc: node fetch, 200 at once and aborted", "--work-ms=20", "--max-body=512G", example=EXAMPLE)
async def _(server: Server) -> str:
    return await node("uploads.mjs", server.url)
