"""multi_loop: results and loops, compared with what python's sqlite3 reads from the same file."""

import asyncio
import atexit
import csv
import io
import json
import os
import re
import sqlite3
import tempfile
import urllib.parse
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

from harness import check
from programs import output_of
from server import Server

EXAMPLE = "multi_loop"
DATABASE = str(Path(tempfile.gettempdir()) / f"moored_clients_{os.getpid()}.sqlite3")
OPTIONS = ("--database", DATABASE, "--rows", "30000", "--loops", "3", "--threads", "2")

atexit.register(Path(DATABASE).unlink, missing_ok=True)

QUERIES = [
    "SELECT * FROM item WHERE id > :after ORDER BY id",
    "SELECT * FROM item ORDER BY name DESC",
    "SELECT note, count(*), avg(share), NULL FROM item GROUP BY note ORDER BY 2, 1",
    "SELECT note FROM item LIMIT 10",
    "SELECT x'00ff' AS bytes, 'ä€', '', -1.5, 1e300, 9223372036854775807",
    "SELECT 1 WHERE 0",
    "VALUES (1, 'a;b'), (2, 'c--d')",
    "PRAGMA table_info(item)",
]


def expected(sql: str) -> str:
    """What python reads and writes."""
    connection = sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)
    parameters = {"after": -(2**63)} if ":after" in sql else {}
    cursor = connection.execute(sql, parameters)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([column[0] for column in cursor.description])
    for row in cursor:
        writer.writerow([value.hex() if isinstance(value, bytes) else value for value in row])
    connection.close()
    # Python writes 1e+300, and the server 1e300: both are the same number.
    return text.getvalue().replace("e+", "e")


def figures(server: Server) -> dict:
    with urllib.request.urlopen(f"{server.url}/loops.json", timeout=5) as answer:
        return json.load(answer)


@check("multi_loop: curl gets the CSV that python makes of the same file", *OPTIONS, "--part-bytes=5000", example=EXAMPLE)
async def _(server: Server) -> str:
    for sql in QUERIES:
        wanted = await asyncio.to_thread(expected, sql)
        for options in [[], ["--http1.0"]]:
            text = await output_of(
                "curl", "-sS", "-G", *options, "--data-urlencode", f"sql={sql}", f"{server.url}/query"
            )
            # `output_of` decodes bytes one by one.
            assert text.encode("latin-1").decode() == wanted, f"{sql}: {text[:200]!r}, not {wanted[:200]!r}"
    return f"{len(QUERIES)} results, in chunks and to HTTP/1.0"


@check("multi_loop: http.client stays on one loop of its connection", *OPTIONS, example=EXAMPLE)
async def _(server: Server) -> str:
    def use() -> str:
        homes = []
        connections = [HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(6)]
        for connection in connections:
            seen = set()
            for path in ["/ping", "/slow?ms=5", "/broadcast", "/move?to=1", "/deadlock", "/query?sql=SELECT+1"]:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == (409 if path == "/deadlock" else 200), f"{path}: {answer.status}"
                seen.add(answer.getheader("X-Loop"))
            assert len(seen) == 1, f"one connection, several loops: {seen}"
            homes.extend(seen)
        assert sorted(homes) == ["0", "0", "1", "1", "2", "2"], f"{homes}"
        for connection in connections:
            connection.close()
        return f"loops of 6 connections: {' '.join(homes)}"

    return await asyncio.to_thread(use)


@check("multi_loop: curl --max-time leaves, and its query is interrupted", *OPTIONS, example=EXAMPLE)
async def _(server: Server) -> str:
    process = await asyncio.create_subprocess_exec("curl", "-s", "--max-time", "0.5", f"{server.url}/slow?ms=60000")
    assert await process.wait() == 28, "curl has not given up"
    while (await asyncio.to_thread(figures, server))["interrupted"] < 1:
        await asyncio.sleep(0.01)
    return "interrupted"


@check("multi_loop: wrk and h2load ask all loops", *OPTIONS, example=EXAMPLE)
async def _(server: Server) -> str:
    query = urllib.parse.quote("SELECT name FROM item WHERE id = 77")
    rates = []
    for path in ["/ping", f"/query?sql={query}"]:
        output = await output_of("wrk", "-t1", "-c30", "-d2s", f"{server.url}{path}")
        wrong = re.findall(r"(?:Socket errors|Non-2xx).*", output)
        assert not wrong, f"{path}: {wrong}"
        rates.append(re.search(r"Requests/sec:\s+([0-9.]+)", output)[1])
        output = await output_of("h2load", "--h1", "-n10000", "-c30", "-m4", f"{server.url}{path}")
        statuses = re.search(r"^status codes: .*", output, re.MULTILINE)[0]
        assert " 10000 2xx" in statuses, output
    requests = [loop["requests"] for loop in (await asyncio.to_thread(figures, server))["loops"]]
    assert min(requests) > 3000, f"{requests}"
    return f"pings/s {rates[0]}, queries/s {rates[1]}; requests of the loops {requests}"
