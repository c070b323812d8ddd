#!/usr/bin/env python3
"""Plain HTTP of ws_stream, alone and while streams run: requests a second, and how long one takes.

    benches/http/run.py            about a minute
    benches/http/run.py --help

README.md beside this file says how to read it.
"""

import argparse
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server_bench import Figure, Load, Server, build, need, say_machine, table

PATHS = ["/page.css", "/dump"]
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class Row:
    def __init__(self, path, streams):
        self.path, self.streams = path, streams
        self.requests, self.p50, self.p99, self.messages = Figure(), Figure(), Figure(), Figure()

    def measure(self, server, options):
        # A second longer, so that all of wrk's time has them for company.
        load = Load(server, self.streams, options.seconds + 1) if self.streams else None
        requests, p50, p99 = wrk(server.url(self.path), options)
        self.requests.add(requests)
        self.p50.add(p50)
        self.p99.add(p99)
        self.messages.add(load.wait()[0] if load else 0.0)


def main():
    options = parse()
    need("wrk", "wrk")
    build()
    say_machine()
    rows = [Row(path, streams) for path in PATHS for streams in [0, options.streams]]
    with Server(options.threads) as server:
        for _ in range(options.rounds):
            for row in rows:
                row.measure(server, options)
    report(rows)


def parse():
    parser = argparse.ArgumentParser(description="HTTP load on ws_stream.")
    parser.add_argument("--streams", type=int, default=100, help="WebSockets that run beside it [100]")
    parser.add_argument("--connections", type=int, default=16, help="of wrk, kept alive [16]")
    parser.add_argument("--threads", type=int, default=2, help="of the server, and of wrk [2]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of a round [2]")
    return parser.parse_args()


def wrk(url, options):
    """Requests a second, and the milliseconds of half and of 99 % of them."""
    command = ["wrk", "--latency", f"-t{options.threads}", f"-c{options.connections}", f"-d{options.seconds}s", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"not all of it was answered:\n{text}")
    return float(re.search(r"Requests/sec:\s+([0-9.]+)", text)[1]), percentile(text, 50), percentile(text, 99)


def percentile(text, percent):
    number, unit = re.search(rf"^\s+{percent}%\s+([0-9.]+)(us|ms|s)$", text, re.MULTILINE).groups()
    return float(number) * MILLISECONDS[unit]


def report(rows):
    head = ["path", "streams", "requests/s", "p50 ms", "p99 ms", "messages/s beside it"]
    cells = []
    for row in rows:
        beside = row.messages.text() if row.streams else "-"
        figures = [row.requests.text(), row.p50.text(2), row.p99.text(2), beside]
        cells.append([row.path, str(row.streams), *figures])
    table(head, cells)
    for row in rows:
        fields = [row.requests.fields("requests_per_s"), row.p50.fields("p50_ms", 3), row.p99.fields("p99_ms", 3)]
        print(f"HTTP path={row.path} streams={row.streams} {' '.join(fields)}")


if __name__ == "__main__":
    main()
