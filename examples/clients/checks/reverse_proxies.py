"""nginx and haproxy in front of the server, and the origins that it then accepts.

The client is python websockets. It connects to the proxy and requests http://site.example/, like a
browser for which site.example is the name of the proxy.
"""

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from harness import check
from programs import output_of
from proxies import haproxy, nginx
from sequence import Sequence
from server import Server

ORIGIN = "http://site.example"
FORWARDED = (
    "proxy_set_header X-Forwarded-Host $http_host;",
    "proxy_set_header X-Forwarded-Proto $scheme;",
)


async def stream_from(port: int, origin: str, host: str = "site.example") -> str:
    """Reads a stream; returns what came, or the status of the refusal."""
    sequence = Sequence(1024)
    url = f"ws://{host}/stream?chunks=100&size=1024"
    try:
        async with connect(url, origin=origin, host="127.0.0.1", port=port) as client:
            async for message in client:
                sequence.add(message)
    except InvalidStatus as refusal:
        return f"{refusal.response.status_code}"
    return f"{sequence}, close {client.close_code}"


async def expect_accepted(port: int, origin: str, host: str = "site.example") -> str:
    result = await stream_from(port, origin, host)
    wanted = "100 messages of 1024 bytes, close 1000"
    assert result == wanted, f"Origin {origin}, Host {host}: {result}"
    return f"Origin {origin} accepted"


async def expect_refused(port: int, origin: str, host: str = "site.example") -> str:
    result = await stream_from(port, origin, host)
    assert result == "403", f"Origin {origin}, Host {host}: {result} instead of 403"
    return f"Origin {origin} refused with 403"


async def pages(port: int) -> str:
    """Requests the page and the dump twice on one connection."""
    urls = [f"http://127.0.0.1:{port}{path}" for path in ["/", "/dump", "/page.css", "/dump.json"]]
    output = await output_of(
        "curl", "--silent", "--show-error", "--write-out", "%{stderr}%{http_code} ",
        *["--output", "/dev/null"] * len(urls), *urls,
    )
    assert output.split() == ["200"] * len(urls), output
    return f"statuses {output}"


# Without a proxy: how origins are compared.


@check("origin: letter case and the default port make no difference")
async def _(server: Server) -> str:
    for origin, host in [
        ("http://SITE.example", "site.example"),
        ("http://site.example:80", "site.example"),
        ("http://site.example", "site.example:80"),
        ("http://Site.Example:80", "SITE.EXAMPLE"),
        ("http://localhost:7681", "localhost:7681"),
    ]:
        await expect_accepted(server.port, origin, host)
    return "5 spellings accepted"


@check("origin: another scheme, host or port is refused with 403")
async def _(server: Server) -> str:
    for origin in [
        "https://site.example",
        "http://other.example",
        "http://site.example:8080",
        "http://site.example.other.example",
        "null",
    ]:
        await expect_refused(server.port, origin)
    return "5 other origins refused with 403"


@check(
    "origin: --allow-origin can be repeated",
    "--allow-origin=HTTPS://Site.Example:443", "--allow-origin=http://other.example:8080",
)
async def _(server: Server) -> str:
    host = f"127.0.0.1:{server.port}"
    for origin in ["https://site.example", "http://other.example:8080", f"http://{host}"]:
        await expect_accepted(server.port, origin, host)
    for origin in ["http://site.example", "http://other.example"]:
        await expect_refused(server.port, origin, host)
    return "3 origins accepted, 2 refused with 403"


@check("origin: --allow-origin=* allows all, with a warning", "--allow-origin=*")
async def _(server: Server) -> str:
    await expect_accepted(server.port, "http://other.example", f"127.0.0.1:{server.port}")
    errors = await server.errors()
    assert "origin" in errors, f"no warning on stderr, only {errors!r}"
    return f"accepted; {errors}"


# nginx sends the address of the server as Host.


@check("nginx: page, style, dump")
async def _(server: Server) -> str:
    async with nginx(server.port) as port:
        return await pages(port)


@check("nginx: the rewritten Host does not match the origin")
async def _(server: Server) -> str:
    async with nginx(server.port) as port:
        return await expect_refused(port, ORIGIN)


@check("nginx: --allow-origin", f"--allow-origin={ORIGIN}")
async def _(server: Server) -> str:
    async with nginx(server.port) as port:
        await expect_refused(port, "http://other.example")
        return await expect_accepted(port, ORIGIN)


@check("nginx: X-Forwarded-Host and -Proto with --trust-proxy", "--trust-proxy")
async def _(server: Server) -> str:
    async with nginx(server.port, *FORWARDED) as port:
        await expect_refused(port, "http://other.example")
        await expect_refused(port, "https://site.example")
        return await expect_accepted(port, ORIGIN)


@check("nginx: X-Forwarded-Proto https with --trust-proxy", "--trust-proxy")
async def _(server: Server) -> str:
    https = FORWARDED[0], "proxy_set_header X-Forwarded-Proto https;"
    async with nginx(server.port, *https) as port:
        return await expect_accepted(port, "https://site.example")


@check("nginx: X-Forwarded-Host and -Proto have no effect without --trust-proxy")
async def _(server: Server) -> str:
    async with nginx(server.port, *FORWARDED) as port:
        return await expect_refused(port, ORIGIN)


# haproxy keeps Host.


@check("haproxy: page, style, dump")
async def _(server: Server) -> str:
    async with haproxy(server.port) as port:
        return await pages(port)


@check("haproxy: needs no option")
async def _(server: Server) -> str:
    async with haproxy(server.port) as port:
        await expect_refused(port, "http://other.example")
        return await expect_accepted(port, ORIGIN)


@check("haproxy: X-Forwarded-Proto https with --trust-proxy", "--trust-proxy")
async def _(server: Server) -> str:
    async with haproxy(server.port, "http-request set-header X-Forwarded-Proto https") as port:
        await expect_refused(port, ORIGIN)
        return await expect_accepted(port, "https://site.example")
