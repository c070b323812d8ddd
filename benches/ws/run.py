#!/usr/bin/env python3
"""Endless 1 KiB messages to many WebSockets: how many a second, and for how many system calls.

    benches/ws/run.py            8, 100 and 1,000 clients, about a minute and a half
    benches/ws/run.py --help

README.md beside this file says how to read it.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server_bench import Figure, Load, Server, build, interrupt, need, say_machine, table

# With so many clients a message may cost so many system calls.
GOAL_CLIENTS, GOAL_CALLS = 100, 1.3
# Calls that are rarer than this per message are not listed.
RARE = 0.0005
# What `perf` counts by name; the total is of all calls.
PERF_NAMES = ["writev", "write", "epoll_wait", "futex", "sched_yield", "recvfrom", "read", "epoll_ctl"]


def main():
    options = parse()
    need(options.counter, {"perf": "linux-perf"}.get(options.counter, options.counter))
    build()
    say_machine()
    speeds = {clients: (Figure(), Figure()) for clients in options.clients}
    counts = {clients: [] for clients in options.clients}
    with Server(options.threads) as server:
        for _ in range(options.rounds):
            for clients in options.clients:
                rates = Load(server, clients, options.seconds).wait()
                for figure, rate in zip(speeds[clients], rates):
                    figure.add(rate)
        for _ in range(options.count_rounds):
            for clients in options.clients:
                counts[clients].append(count(server, clients, options))
    return report(options, speeds, counts)


def parse():
    parser = argparse.ArgumentParser(description="Load on ws_stream.")
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 100, 1000])
    parser.add_argument("--threads", type=int, default=2, help="workers of the server [2]")
    parser.add_argument("--rounds", type=int, default=5, help="for the speed [5]")
    parser.add_argument("--seconds", type=int, default=3, help="of a round [3]")
    parser.add_argument("--count-rounds", type=int, default=3, help="for the system calls [3]")
    parser.add_argument("--count-seconds", type=int, default=2, help="of such a round [2]")
    parser.add_argument(
        "--counter",
        choices=["strace", "perf"],
        default="strace",
        help="strace slows the server to a fifth; perf hardly does, but needs root [strace]",
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.count_rounds < 1:
        parser.error("at least one round of each")
    return options


def count(server, clients, options):
    """System calls per message: {name: calls}, and their sum as "total"."""
    before = server.messages_made()
    with tempfile.NamedTemporaryFile("r") as output:
        counter = subprocess.Popen(
            counter_command(options.counter, server.pid, output.name),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # It says nowhere that it has attached.
        time.sleep(0.5)
        Load(server, clients, options.count_seconds).wait()
        interrupt(counter)
        calls = parse_strace(output) if options.counter == "strace" else parse_perf(output)
    if not calls.get("total"):
        sys.exit(f"{options.counter} has counted nothing: is it allowed to attach to a process?")
    messages = server.messages_made() - before
    return {name: calls / messages for name, calls in calls.items()}


def counter_command(counter, pid, output):
    if counter == "strace":
        return ["strace", "-f", "-c", "-p", str(pid), "-o", output]
    events = ",".join(["raw_syscalls:sys_enter", *(f"syscalls:sys_enter_{name}" for name in PERF_NAMES)])
    return ["perf", "stat", "-x", ",", "-e", events, "-p", str(pid), "-o", output]


def parse_strace(lines):
    """`% time, seconds, usecs/call, calls, errors or nothing, name`."""
    rows = [line.split() for line in lines]
    return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit()}


def parse_perf(lines):
    """`count,,event,...`."""
    rows = [line.split(",") for line in lines]
    calls = {row[2].split("sys_enter")[1].lstrip("_"): int(row[0]) for row in rows if len(row) > 2 and row[0].isdigit()}
    calls["total"] = calls.pop("", 0)
    return calls


def report(options, speeds, counts):
    calls = {clients: calls_by_name(rounds) for clients, rounds in counts.items()}
    head = ["clients", "messages/s", "MB/s", "calls per message"]
    figures = [(clients, *speeds[clients], calls[clients]["total"]) for clients in options.clients]
    table(head, [[str(clients), speed.text(), bulk.text(1), total.text(3)] for clients, speed, bulk, total in figures])
    report_calls(calls)
    goal_met = True
    for clients, speed, bulk, total in figures:
        print(f"WS clients={clients} {speed.fields('messages_per_s')} {bulk.fields('mb_per_s', 1)}")
        line = f"WS clients={clients} counter={options.counter} {total.fields('calls_per_message', 3)}"
        if clients == GOAL_CLIENTS:
            goal_met = total.median() <= GOAL_CALLS
            line += f" goal={GOAL_CALLS} {'met' if goal_met else 'MISSED'}"
        print(line)
    return 0 if goal_met else 1


def calls_by_name(rounds):
    """What a round does not mention was not called in it."""
    figures = collections.defaultdict(Figure)
    for name in {name for counted in rounds for name in counted}:
        for counted in rounds:
            figures[name].add(counted.get(name, 0.0))
    return figures


def report_calls(calls):
    highest = collections.Counter()
    for figures in calls.values():
        for name, figure in figures.items():
            highest[name] = max(highest[name], figure.median())
    names = [name for name, most in highest.most_common() if most >= RARE and name != "total"]
    head = ["per message", *(f"{clients} clients" for clients in calls)]
    table(head, [[name, *(f"{figures[name].median():.3f}" for figures in calls.values())] for name in names])


if __name__ == "__main__":
    sys.exit(main())
