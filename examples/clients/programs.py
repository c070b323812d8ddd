"""Runs client programs."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent


async def output_of(*command: str) -> str:
    """What a program prints to stdout and stderr. Its exit code must be 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        # Not every program prints UTF-8.
        output = (await process.communicate())[0].decode("latin-1")
    finally:
        await kill(process)
    assert process.returncode == 0, f"{command[0]}: exit code {process.returncode}: {output}"
    return output


def send_signal(process: Process, number: signal.Signals) -> None:
    """Sends a signal, unless the process has ended."""
    # `Process.send_signal` may take the exit code away from the task that waits for it.
    with suppress(ProcessLookupError):
        if process.returncode is None:
            os.kill(process.pid, number)


async def kill(process: Process) -> None:
    """Ends the process by SIGKILL, unless it has ended."""
    send_signal(process, signal.SIGKILL)
    await process.wait()


async def node(script: str, *arguments: str) -> str:
    return await output_of("node", str(HERE / "node" / script), *arguments)
