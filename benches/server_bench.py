"""What `ws/run.py` and `http/run.py` share: the server under test, its load, rounds and medians."""

import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "examples"


def need(program, package):
    if shutil.which(program) is None:
        sys.exit(f"{program} is missing: apt-get install {package}")


def build():
    command = ["cargo", "build", "--release", "-p", "examples", "--example", "ws_stream", "--example", "ws_load"]
    subprocess.run(command, cwd=ROOT, check=True)


class Server:
    """A `ws_stream` of its own, on a free port. Use it in a `with`."""

    def __init__(self, threads):
        command = [EXAMPLES / "ws_stream", "--port", "0", "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        greeting = self.process.stdout.readline()
        found = re.search(r"http://([0-9.]+:\d+)/", greeting)
        if not found:
            sys.exit(f"ws_stream does not say where it listens: {greeting!r}")
        self.address = found[1]
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        interrupt(self.process)

    def url(self, path):
        return f"http://{self.address}{path}"

    def messages_made(self):
        """The server's own count: what a client has not read in the end was a message as well."""
        with urllib.request.urlopen(self.url("/dump.json?limit=0")) as answer:
            return json.load(answer)["counters"]["syncs"]


class Load:
    """A `ws_load` that runs until its time is over. Fails if a message is missing or doubled."""

    def __init__(self, server, clients, seconds):
        self.command = [EXAMPLES / "ws_load", "--addr", server.address]
        self.command += ["--clients", str(clients), "--seconds", str(seconds)]
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)

    def wait(self):
        """Messages and megabytes per second."""
        text, _ = self.process.communicate()
        if self.process.returncode != 0:
            sys.exit(f"{self.command} has failed")
        rates = re.search(r": (\d+) messages/s, ([0-9.]+) MB/s", text)
        return float(rates[1]), float(rates[2])


def interrupt(process):
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        sys.exit(f"{process.args} does not stop")


class Figure:
    """One number, measured in several rounds."""

    def __init__(self):
        self.rounds = []

    def add(self, value):
        self.rounds.append(value)

    def median(self):
        """Zero if it was never measured: a call that no round has made."""
        return statistics.median(self.rounds or [0.0])

    def text(self, digits=0):
        low, high = min(self.rounds), max(self.rounds)
        return f"{self.median():,.{digits}f} ({low:,.{digits}f}..{high:,.{digits}f})"

    def fields(self, name, digits=0):
        """For programs: the median, and between what."""
        low, high = min(self.rounds), max(self.rounds)
        return f"{name}={self.median():.{digits}f} {name}_min={low:.{digits}f} {name}_max={high:.{digits}f}"


def table(head, rows):
    """Prints columns as wide as they need to be, the first to the left."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        first = line[0].ljust(widths[0])
        print("  ".join([first, *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]).rstrip())
    print()


def say_machine():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {model[1] if model else 'unknown'}, Linux {os.uname().release}, load {load:.1f}\n")
