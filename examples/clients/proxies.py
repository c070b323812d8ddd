"""Starts nginx and haproxy in front of the server."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from programs import send_signal

# The defaults of nginx, with what its documentation demands for WebSockets.
NGINX = """
{user}
daemon off;
error_log stderr;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{server_port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            {extra}
        }}
    }}
}}
"""

# The section `defaults` of the file that Debian installs.
HAPROXY = """
defaults
    mode http
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
frontend front
    bind 127.0.0.1:{port}
    {extra}
    default_backend back
backend back
    server ws_stream 127.0.0.1:{server_port}
"""


@asynccontextmanager
async def nginx(server_port: int, *extra: str) -> AsyncIterator[int]:
    """The port of an nginx; `extra` are lines of its `location`."""
    # Otherwise its workers may not use the temporary folder.
    user = "user root;" if os.geteuid() == 0 else ""
    config = NGINX.replace("{user}", user)
    command = ["nginx", "-p", "{folder}", "-c", "{file}"]
    async with _proxy(config, server_port, extra, command) as port:
        yield port


@asynccontextmanager
async def haproxy(server_port: int, *extra: str) -> AsyncIterator[int]:
    """The port of a haproxy; `extra` are lines of its `frontend`."""
    command = ["haproxy", "-db", "-f", "{file}"]
    async with _proxy(HAPROXY, server_port, extra, command) as port:
        yield port


@asynccontextmanager
async def _proxy(
    config: str, server_port: int, extra: tuple[str, ...], command: list[str]
) -> AsyncIterator[int]:
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config")
        file.write_text(config.format(port=port, server_port=server_port, extra="\n".join(extra)))
        process = await asyncio.create_subprocess_exec(
            *[word.format(folder=folder, file=file) for word in command],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            await _listening(process, port)
            yield port
        finally:
            send_signal(process, signal.SIGTERM)
            await process.communicate()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


async def _listening(process: asyncio.subprocess.Process, port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except ConnectionError:
            if process.returncode is not None:
                output = (await process.stdout.read()).decode()
                raise AssertionError(f"the proxy ended: {output}") from None
            # There is no event for a port that begins to listen.
            await asyncio.sleep(0.02)
