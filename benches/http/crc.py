#!/usr/bin/env python3
"""`POST /crc` of http_crc beside axum: requests a second, processor time, latency, system calls.

    benches/http/crc.py            some five minutes
    benches/http/crc.py --help

README.md beside this file says how to read it.
"""

import argparse
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server_bench import EXAMPLES, ROOT, interrupt, need, say_machine, table

MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
TICKS = os.sysconf("SC_CLK_TCK")
SCRIPT = 'wrk.method = "POST"\nwrk.body = string.rep("x", {bytes})\n'

# name, program, arguments, path
SERVERS = [
    ("http_crc", "http_crc", ["--port", "0", "--threads", "2"], "/crc"),
    ("fast", "http_crc", ["--port", "0", "--threads", "2"], "/fast"),
    ("blocking2", "axum_crc", ["blocking2"], "/crc"),
    ("blocking", "axum_crc", ["blocking"], "/crc"),
    ("single2", "axum_crc", ["single2"], "/crc"),
    ("inline", "axum_crc", ["inline"], "/crc"),
]
OURS = "http_crc"

# What is promised: figure, peer, connections, the least or the most, the bound.
GOALS = [
    ("rate", "blocking2", 16, "least", 1.4),
    ("rate", "blocking2", 64, "least", 1.4),
    ("rate", "blocking2", 256, "least", 1.4),
    ("rate", "blocking", 1, "least", 1.1),
    ("rate", "inline", 16, "least", 0.8),
    ("rate", "inline", 64, "least", 1.0),
    ("rate", "inline", 256, "least", 1.0),
    ("rate", "fast", 64, "least", 0.9),
    ("cpu", "blocking2", 64, "most", 0.4),
    ("p99", "blocking2", 64, "most", 0.5),
]
CALLS_MAX = 2.4
RSS_MIB_MAX = 6.0


class Server:
    def __init__(self, name, program, arguments, path):
        self.name, self.path = name, path
        self.process = subprocess.Popen([EXAMPLES / program, *arguments], stdout=subprocess.PIPE, text=True)
        self.address = re.search(r"http://([0-9.]+:\d+)/", self.process.stdout.readline())[1]
        self.pid = self.process.pid
        self.stops_on_signal = program == "http_crc"

    def stop(self):
        if self.stops_on_signal:
            interrupt(self.process)
        else:
            self.process.kill()
            self.process.wait()

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mib(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


class Sample:
    """One run of wrk."""

    def __init__(self, server, connections, seconds, script):
        before = server.cpu_seconds()
        url = f"http://{server.address}{server.path}"
        command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in text or "Socket errors" in text:
            sys.exit(f"{server.name}: not all of it was answered:\n{text}")
        self.requests = int(re.search(r"(\d+) requests in", text)[1])
        self.rate = float(re.search(r"Requests/sec:\s+([0-9.]+)", text)[1])
        number, unit = re.search(r"^\s+99%\s+([0-9.]+)(us|ms|s)$", text, re.MULTILINE).groups()
        self.p99 = float(number) * MILLISECONDS[unit]
        # Seconds for 100,000 requests.
        self.cpu = (server.cpu_seconds() - before) * 100_000 / self.requests


def main():
    options = parse()
    need("wrk", "wrk")
    build()
    say_machine()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    servers = [Server(*server) for server in SERVERS]
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(SCRIPT.format(bytes=options.bytes))
            script.flush()
            samples = measure(servers, options, script.name)
            report(samples, options)
            check_goals(samples)
            measure_calls(servers[0], options, script.name)
            measure_rss(servers[0], script.name)
    finally:
        for server in servers:
            server.stop()


def parse():
    parser = argparse.ArgumentParser(description="POST /crc of http_crc beside axum.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of one run of wrk [2]")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--bytes", type=int, default=1024, help="of a body [1024]")
    return parser.parse_args()


def build():
    for package, example in [("examples", "http_crc"), ("benches", "axum_crc")]:
        command = ["cargo", "build", "--release", "-p", package, "--example", example]
        subprocess.run(command, cwd=ROOT, check=True)


def measure(servers, options, script):
    """Samples by connections and name, one for each round. All servers have a turn in each round,
    one after the other, so that a busy minute of the machine meets all of them."""
    samples = {}
    for number in range(options.rounds):
        for connections in options.connections:
            # Another one begins in each round.
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                sample = Sample(server, connections, options.seconds, script)
                samples.setdefault((connections, server.name), []).append(sample)
    return samples


def ratio(samples, figure, peer, connections):
    """The median of the ratios of the rounds, and the lowest and the highest."""
    pairs = zip(samples[connections, OURS], samples[connections, peer])
    ratios = [getattr(ours, figure) / max(getattr(theirs, figure), 1e-9) for ours, theirs in pairs]
    return statistics.median(ratios), min(ratios), max(ratios)


def report(samples, options):
    rows = []
    for connections in options.connections:
        for name, *_ in SERVERS:
            figures = samples[connections, name]
            median = {key: statistics.median(getattr(it, key) for it in figures) for key in ["rate", "cpu", "p99"]}
            rate, low, high = ratio(samples, "rate", name, connections)
            cpu, p99 = (ratio(samples, figure, name, connections)[0] for figure in ["cpu", "p99"])
            rows.append([
                name, str(connections), f"{median['rate']:,.0f}", f"{rate:.2f} ({low:.2f}..{high:.2f})",
                f"{median['cpu']:.2f}", f"{cpu:.2f}", f"{median['p99']:.2f}", f"{p99:.2f}",
            ])
    print("Ratios are http_crc / this server, the median of the rounds.\n")
    table(["server", "connections", "requests/s", "ratio", "CPU s/100,000", "ratio", "p99 ms", "ratio"], rows)


def check_goals(samples):
    for figure, peer, connections, kind, bound in GOALS:
        if (connections, peer) not in samples:
            continue
        value, low, high = ratio(samples, figure, peer, connections)
        met = value >= bound if kind == "least" else value <= bound
        print(f"CRC {figure}/{peer} connections={connections} ratio={value:.2f} min={low:.2f} max={high:.2f} "
              f"goal={'>=' if kind == 'least' else '<='}{bound} {'met' if met else 'MISSED'}")


def measure_calls(server, options, script):
    """System calls for a request, counted by perf. Needs root."""
    perf = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", str(server.pid), "sleep", str(options.seconds + 2)]
    try:
        counting = subprocess.Popen(perf, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        print("CRC calls: perf is missing")
        return
    sample = Sample(server, 64, options.seconds, script)
    _, text = counting.communicate()
    found = re.search(r"^(\d+),", text, re.MULTILINE)
    if not found:
        print(f"CRC calls: perf says {text.strip()!r}")
        return
    calls = int(found[1]) / sample.requests
    print(f"CRC calls connections=64 per_request={calls:.2f} goal=<={CALLS_MAX} {'met' if calls <= CALLS_MAX else 'MISSED'}")


def measure_rss(server, script):
    """Memory while 1,024 connections send requests."""
    url = f"http://{server.address}{server.path}"
    wrk = subprocess.Popen(["wrk", "-t1", "-c1024", "-d3s", "-s", script, url], stdout=subprocess.DEVNULL)
    most = 0.0
    while wrk.poll() is None:
        most = max(most, server.rss_mib())
        try:
            wrk.wait(0.1)
        except subprocess.TimeoutExpired:
            pass
    print(f"CRC rss connections=1024 MiB={most:.1f} goal=<={RSS_MIB_MAX} {'met' if most <= RSS_MIB_MAX else 'MISSED'}")


if __name__ == "__main__":
    main()
