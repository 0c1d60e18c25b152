"""Runs scenarios one after the other and sums up. Exits with 1 if a promise was broken."""

import argparse
import asyncio
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import wire
from scenarios import SCENARIOS
from self_test import check_the_judge
from stage import Skipped, Stage


# A scenario that takes so long, and ten times what it was given, hangs.
LONGEST = 60


def arguments():
    parser = argparse.ArgumentParser(description="Breaks things around a real node, and counts what is lost.")
    parser.add_argument("--outrigger", metavar="BIN", help="the program; without it a release of this tree is built")
    parser.add_argument("--seconds", type=float, default=10, help="of load and faults in each scenario (10)")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("scenario", nargs="*", help="all of them if none is named")
    return parser.parse_args()


async def run(name, program, seconds):
    """Whether it went well, and the line for the table."""
    stage, begun = Stage(program, seconds), time.monotonic()
    playing = asyncio.create_task(SCENARIOS[name](stage))
    try:
        await asyncio.wait([playing], timeout=LONGEST + 10 * seconds)
        if not playing.done():
            stage.failures.append(f"did not end; it is at {playing.get_stack()[-1]}")
        elif isinstance(playing.exception(), Skipped):
            stage.skipped = str(playing.exception())
        elif error := playing.exception():
            is_expected = isinstance(error, AssertionError)
            stage.failures.append(str(error) if is_expected else told(error))
    finally:
        await wire.end(playing)
        await stage.close()
    return report(name, stage, time.monotonic() - begun)


def told(error):
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).strip()


def report(name, stage, took):
    is_well = not stage.failures
    if stage.skipped:
        print(f"skipped - {name}: {stage.skipped}", flush=True)
        shutil.rmtree(stage.folder)
        return True, [name, *["–"] * 5, "skipped", ""]
    print(f"{'ok' if is_well else 'not ok'} - {name}: {SCENARIOS[name].__doc__}")
    for note in stage.notes:
        print(f"    {note}")
    for failure in stage.failures:
        print(f"    FAILED: {failure}")
    if is_well:
        shutil.rmtree(stage.folder)
    elif stage.node:
        print(f"    logs are in {stage.folder}; the last lines of the node's:")
        for line in stage.node.last_words():
            print(f"    | {line}")
    sys.stdout.flush()
    return is_well, row(name, stage, is_well, took)


def row(name, stage, is_well, took):
    verdict = getattr(stage, "verdict", None)
    pushed = sum(stage.publisher.acknowledged.values()) if stage.publisher else 0
    counts = [verdict.heard, verdict.told, verdict.missed, verdict.lost] if verdict else ["–"] * 4
    return [name, pushed, *counts, "ok" if is_well else "FAILED", f"{took:.0f} s"]


def table(rows):
    head = ["scenario", "acknowledged", "heard", "gaps told", "publications in them", "lost", "", ""]
    widths = [max(len(str(it[at])) for it in [head, *rows]) for at in range(len(head))]
    for line in [head, *rows]:
        name, *counts = (str(it).rjust(width) for it, width in zip(line, widths))
        print("  ".join([name.strip().ljust(widths[0]), *counts]).rstrip())


def main():
    wanted = arguments()
    if wanted.list:
        for name, function in SCENARIOS.items():
            print(f"{name:16} {function.__doc__}")
        return 0
    unknown = set(wanted.scenario) - set(SCENARIOS)
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}", file=sys.stderr)
        return 2
    check_the_judge()
    # Its children are ended as on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    program = str(Path(wanted.outrigger).resolve())
    results = [asyncio.run(run(name, program, wanted.seconds)) for name in wanted.scenario or SCENARIOS]
    print()
    table([row for _, row in results])
    failed = sum(not is_well for is_well, _ in results)
    skipped = sum(row[-2] == "skipped" for _, row in results)
    print(f"\n{len(results) - failed - skipped} of {len(results)} scenarios went well, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
