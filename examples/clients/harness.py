"""Registers checks, runs them, and prints one line for each."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from server import Server, one_line, started


@dataclass(frozen=True)
class Check:
    title: str
    # Options of the server.
    options: tuple[str, ...]
    # Seconds after which the check fails.
    limit: float
    # The example server that it is about.
    example: str
    # Returns what the client printed; an exception is a failure.
    run: Callable[[Server], Awaitable[str]]


# Run one after the other.
_short: list[Check] = []
# Mostly wait. All of them run at the same time, beside the short ones.
_long: list[Check] = []


def check(title: str, *options: str, limit: float = 20, example: str = "ws_stream"):
    """Registers an async function that gets a fresh server with these options."""
    return lambda run: _short.append(Check(title, options, limit, example, run))


def long_check(title: str, *options: str, limit: float, example: str = "ws_stream"):
    """Like `check`, for a check that takes long but needs little computing time."""
    return lambda run: _long.append(Check(title, options, limit, example, run))


async def run_checks(words: list[str]) -> bool:
    """Runs the checks whose title contains one of the words; returns whether all passed."""

    def wanted(check: Check) -> bool:
        return not words or any(word in check.title for word in words)

    long = [asyncio.create_task(_passes(check)) for check in _long if wanted(check)]
    passed = [await _passes(check) for check in _short if wanted(check)]
    passed += await asyncio.gather(*long)
    if not passed:
        print(f"FAIL  no title contains: {' '.join(words)}")
    else:
        print(f"{sum(passed)} of {len(passed)} checks passed")
    return bool(passed) and all(passed)


async def _passes(check: Check) -> bool:
    begun = time.monotonic()
    try:
        async with asyncio.timeout(check.limit):
            async with started(check.example, *check.options) as server:
                mark, text = "ok  ", await check.run(server)
    except Exception as error:
        mark, text = "FAIL", _description(error, check.limit)
    seconds = time.monotonic() - begun
    print(f"{mark}  {check.title}: {one_line(text)} ({seconds:.1f} s)", flush=True)
    return mark == "ok  "


def _description(error: BaseException, limit: float) -> str:
    match error:
        case AssertionError():
            text = str(error)
        case TimeoutError(__cause__=asyncio.CancelledError() as cause):
            # The traceback of the cause says where the check waited.
            text, error = f"not done after {limit:g} s", cause
        case _:
            text = f"{type(error).__name__}: {error}"
    text = "; ".join([text, *getattr(error, "__notes__", [])])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_ours(frame)]
    return f"{text} [{Path(own[-1].filename).name}:{own[-1].lineno}]"


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(Path(__file__).parent)
