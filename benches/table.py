"""Turns the JSON lines of benches/run into Markdown tables, one row per cell and server."""

import json
import sys
from collections import defaultdict
from statistics import median


def main():
    with open(sys.argv[1]) as lines:
        runs = [json.loads(line) for line in lines]
    moving = [run for run in runs if run["mode"] in ("closed", "latency")]
    for title, mode in (("one POST in flight", "closed"), ("fixed rate", "latency")):
        print_fanout(title, [run for run in moving if run["mode"] == mode])
    print_idle([run for run in runs if run["mode"] == "idle"])
    print_return([run for run in runs if run["mode"] == "return"])


def print_fanout(title, runs):
    if not runs:
        return
    print(f"\n#### Fan-out, {title}\n")
    print_row("subscribers", "transport", "data", "burst", "server", "runs", "deliveries/s", "CPU-s per million, median / best",
              "× floor, median / best", "p50 / p99 ms", "bytes each", "server / client cores", "lost", "disorder", "books off")
    print_row(*["---"] * 15)
    for cell, by_server in grouped(runs).items():
        for server, of_server in by_server.items():
            costs = [run["cpu_seconds_per_million"] for run in of_server]
            print_row(
                *cell, server, len(of_server),
                f"{middle(of_server, 'deliveries_per_second'):,.0f}",
                f"{median(costs):.2f} / {min(costs):.2f}",
                ratios(of_server, by_server.get("floor", [])) if server != "floor" else "1",
                f"{middle(of_server, 'p50_ms'):.1f} / {middle(of_server, 'p99_ms'):.1f}",
                f"{middle(of_server, 'bytes_per_delivery'):.0f}",
                f"{middle(of_server, 'server_cpu'):.2f} / {middle(of_server, 'client_cpu'):.2f}",
                sum(run["lost"] for run in of_server),
                sum(run["out_of_order"] + run["closed"] for run in of_server),
                sum(run["books_off"] for run in of_server),
            )


def print_idle(runs):
    if not runs:
        return
    print("\n#### Idle connections, one subscription each\n")
    print_row("connections", "transport", "server", "runs", "KiB RSS each", "after a burst of 16", "CPU µs per connect", "connects/s", "lost", "books off")
    print_row(*["---"] * 10)
    for cell, by_server in grouped(runs).items():
        for server, of_server in by_server.items():
            print_row(
                cell[0], cell[1], server, len(of_server),
                f"{middle(of_server, 'resident_bytes_per_connection') / 1024:.2f}",
                f"{middle(of_server, 'resident_bytes_per_connection_after_burst') / 1024:.2f}",
                f"{middle(of_server, 'cpu_microseconds_per_connect'):.0f}",
                f"{middle(of_server, 'connects_per_second'):,.0f}",
                sum(run["lost"] for run in of_server),
                sum(run["books_off"] for run in of_server),
            )


def print_return(runs):
    if not runs:
        return
    print("\n#### Everybody comes back\n")
    print_row("clients", "transport", "data", "missed", "runs", "CPU-s per million deliveries, median / best", "seconds",
              "MiB RSS more", "lost", "faults", "books off")
    print_row(*["---"] * 11)
    for cell, by_server in grouped(runs).items():
        for of_server in by_server.values():
            costs = [run["cpu_seconds_per_million"] for run in of_server]
            print_row(
                *cell[:3], of_server[0]["missed"], len(of_server),
                f"{median(costs):.2f} / {min(costs):.2f}",
                f"{middle(of_server, 'seconds'):.2f}",
                f"{middle(of_server, 'resident_bytes_more') / 1048576:.1f}",
                *(sum(run[figure] for run in of_server) for figure in ("lost", "faults", "books_off")),
            )


def grouped(runs):
    """cell → server → its runs in the order of the repetitions."""
    cells = defaultdict(lambda: defaultdict(list))
    for run in runs:
        transport = run["transport"] + (" + TLS" if run["tls"] else "")
        cell = (f"{run['subscribers']:,}", transport, f"{run['size']} B", run["burst"])
        cells[cell][run["label"]].append(run)
    return cells


def ratios(of_server, of_floor):
    """Neighbours in time are compared with each other: the machine's mood is then on both sides."""
    floor = {run["repetition"]: run["cpu_seconds_per_million"] for run in of_floor}
    each = [run["cpu_seconds_per_million"] / floor[run["repetition"]] for run in of_server if run["repetition"] in floor]
    if not each:
        return "–"
    return f"{median(each):.2f} / {min(each):.2f}"


def middle(runs, figure):
    return median(run[figure] for run in runs)


def print_row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


if __name__ == "__main__":
    main()
