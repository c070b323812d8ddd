"""ab, wrk and h2load: many requests, none of which may fail."""

import re

from harness import check
from programs import output_of
from server import Server


def number_after(label: str, output: str) -> float:
    found = re.search(rf"{re.escape(label)}\s*([0-9.]+)", output)
    assert found, f"no {label!r} in: {output}"
    return float(found[1])


@check("ab -k: HTTP/1.0 with keep-alive")
async def _(server: Server) -> str:
    requests = 5000
    output = await output_of("ab", "-q", "-k", "-n", str(requests), "-c", "20", server.url + "/")
    kept = number_after("Keep-Alive requests:", output)
    seconds = number_after("Time taken for tests:", output)
    failed = number_after("Failed requests:", output)
    printed = f"{kept:.0f} of {requests} with keep-alive, {failed:.0f} failed, {seconds} s"
    assert kept == requests and failed == 0 and "Non-2xx" not in output, printed
    assert seconds < 5, printed
    return printed


@check("ab: HTTP/1.0, a connection for each request")
async def _(server: Server) -> str:
    requests = 2000
    output = await output_of("ab", "-q", "-n", str(requests), "-c", "20", server.url + "/page.js")
    complete = number_after("Complete requests:", output)
    failed = number_after("Failed requests:", output)
    printed = f"{complete:.0f} of {requests} complete, {failed:.0f} failed"
    assert complete == requests and failed == 0 and "Non-2xx" not in output, printed
    return printed


@check("wrk: 100 connections for 2 s")
async def _(server: Server) -> str:
    output = await output_of("wrk", "-t2", "-c100", "-d2s", server.url + "/")
    wrong = re.findall(r"(?:Socket errors|Non-2xx).*", output)
    assert not wrong, f"{wrong}"
    requests = number_after("Requests/sec:", output)
    assert requests > 100, output
    return f"{requests:.0f} requests/s"


async def h2load(url: str, *options: str) -> str:
    requests = 20_000
    output = await output_of("h2load", "--h1", f"-n{requests}", "-c50", *options, url)
    wanted = f"{requests} succeeded, 0 failed, 0 errored, 0 timeout"
    counts = re.search(r"^requests: .*", output, re.MULTILINE)[0]
    statuses = re.search(r"^status codes: .*", output, re.MULTILINE)[0]
    assert wanted in counts and f" {requests} 2xx" in statuses, f"{counts}; {statuses}"
    return f"{counts}; {statuses}"


@check("h2load --h1: 50 connections")
async def _(server: Server) -> str:
    return await h2load(server.url + "/page.css")


@check("h2load --h1 -m 8: pipelined requests")
async def _(server: Server) -> str:
    return await h2load(server.url + "/page.css", "-m8")
