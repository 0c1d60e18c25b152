"""Turns the JSON lines of benches/data into two Markdown tables."""

import json
import sys
from collections import defaultdict
from statistics import median


def main():
    with open(sys.argv[1]) as lines:
        runs = [json.loads(line) for line in lines]
    print("\n#### Pushes, one channel for each publisher\n")
    print_row("publishers", "data", "runs", "pushes/s", "CPU µs per push", "p50 / p99 ms")
    print_row(*["---"] * 6)
    for (publishers, label), cell in grouped([run for run in runs if "publishers" in run], "publishers", "label"):
        print_row(
            publishers, label, len(cell),
            f"{middle(cell, 'pushes_per_second'):,.0f}",
            f"{middle(cell, 'cpu_microseconds_per_push'):.1f}",
            f"{middle(cell, 'p50_ms'):.2f} / {middle(cell, 'p99_ms'):.2f}",
        )
    print("\n#### Fan-out, one POST in flight\n")
    print_row("subscribers", "data", "runs", "deliveries/s", "CPU-s per million, median", "p50 / p99 ms", "lost")
    print_row(*["---"] * 7)
    for (subscribers, label), cell in grouped([run for run in runs if "subscribers" in run], "subscribers", "label"):
        print_row(
            subscribers, label, len(cell),
            f"{middle(cell, 'deliveries_per_second'):,.0f}",
            f"{middle(cell, 'cpu_seconds_per_million'):.2f}",
            f"{middle(cell, 'p50_ms'):.1f} / {middle(cell, 'p99_ms'):.1f}",
            sum(run["lost"] for run in cell),
        )


def grouped(runs, *keys):
    cells = defaultdict(list)
    for run in runs:
        cells[tuple(run[key] for key in keys)].append(run)
    return cells.items()


def middle(cell, field):
    return median(run[field] for run in cell)


def print_row(*columns):
    print("| " + " | ".join(str(column) for column in columns) + " |")


main()
