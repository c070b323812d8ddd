"""Runs the checks; `run` has the documentation."""

import asyncio
import signal
import sys

import checks
from harness import run_checks


async def main() -> bool:
    # So that servers and proxies are stopped on the way out.
    stop = asyncio.current_task().cancel
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    return await run_checks(sys.argv[1:])


sys.exit(0 if asyncio.run(main()) else 1)
