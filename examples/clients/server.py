"""Starts the example server, and looks at its process."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from programs import kill, send_signal


def one_line(text: str) -> str:
    """The text without line breaks, and not longer than a reader of the output wants it."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:300]}..."


class Server:
    """A running example server."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._errors = asyncio.create_task(process.stderr.read())
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}"

    def signal(self, number: signal.Signals) -> None:
        send_signal(self._process, number)

    async def exit_code(self) -> int:
        """Waits until the server has ended."""
        return await self._process.wait()

    async def errors(self) -> str:
        """Kills the server and returns what it has written to stderr."""
        await kill(self._process)
        return (await self._errors).decode()

    def sockets(self) -> int:
        """The number of sockets that the server has open."""
        count = 0
        for file in Path(f"/proc/{self._process.pid}/fd").iterdir():
            # The server may close files meanwhile.
            with suppress(FileNotFoundError):
                count += os.readlink(file).startswith("socket:")
        return count

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


@asynccontextmanager
async def started(example: str, *options: str) -> AsyncIterator[Server]:
    """A server on a free port. It is killed at the end, and must not have panicked."""
    process = await asyncio.create_subprocess_exec(
        os.environ[example.upper()], "--port", "0", *options,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        line = (await process.stdout.readline()).decode()
        url = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        if url is None:
            await kill(process)
            errors = one_line((await process.stderr.read()).decode())
            raise AssertionError(f"the server printed {line!r} and on stderr {errors!r}")
        server = Server(process, int(url[1]))
        try:
            yield server
        except Exception as error:
            # The client may notice a bit earlier than the event loop that the server has ended.
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), 0.2)
            if process.returncode is not None:
                errors = await server.errors()
                error.add_note(f"the server has ended: exit code {process.returncode}, {errors!r}")
            raise
        errors = await server.errors()
        assert "panicked" not in errors, f"the server panicked: {errors}"
    finally:
        await kill(process)
