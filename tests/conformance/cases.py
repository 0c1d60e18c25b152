"""Runs Autobahn cases (kosoku) against one WebSocket URL, one case at a time, and fails if any of them fails.

One at a time, because runs of many cases together were seen to end without a report, while each of the same cases
passes alone; and because a case that hangs then costs its own time-out and is named.
"""

import asyncio
import sys
import time
from collections import Counter
from fnmatch import fnmatchcase

from kosoku import FailureError, run_fuzzingclient
from kosoku.cases import CASES

# The longest cases send a thousand messages of 128 KiB to a debug build.
SECONDS_PER_CASE = 120
STRICT = {"OK", "INFORMATIONAL"}


async def main(url, globs):
    cases = [case for case in CASES if any(fnmatchcase(case, glob) for glob in globs)]
    if not cases:
        sys.exit(f"no case matches {' '.join(globs)}")
    failures, lenient, passed, start = [], [], Counter(), time.monotonic()
    for case in cases:
        behavior, closing, why = await run_case(url, case)
        if why:
            failures.append(f"{case}: {behavior} / close {closing}: {why}")
            print(f"FAIL {failures[-1]}", flush=True)
            continue
        passed[group(case)] += 1
        if behavior not in STRICT:
            lenient.append(case)
    for name, count in passed.items():
        print(f"{name}: {count} of {sum(group(case) == name for case in cases)} passed")
    print(f"not strict, which is allowed: {', '.join(lenient) or 'none'}")
    print(f"{len(cases) - len(failures)} of {len(cases)} cases passed in {time.monotonic() - start:.0f} s")
    sys.exit(1 if failures else 0)


async def run_case(url, case):
    """(behaviour, behaviour at the close, why it failed or None)"""
    try:
        results = await asyncio.wait_for(run_fuzzingclient(url, [case]), SECONDS_PER_CASE)
    except FailureError as failure:
        results = failure.results
    except TimeoutError:
        return "TIMEOUT", "-", f"no verdict in {SECONDS_PER_CASE} s"
    if len(results) != 1:
        return "ERROR", "-", f"{len(results)} results for one case"
    result = results[0]
    why = None if result.passed else f"{result.result} {result.result_close}"
    return result.behavior.value, result.behavior_close.value, why


def group(case):
    return f"{case.split('.')[0]}.*"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
