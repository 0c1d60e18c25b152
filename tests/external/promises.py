"""Promises and whether they are kept: `with promise("…"):` prints a line, and a broken one does not stop the next."""

import sys
import traceback
from contextlib import contextmanager

broken = []


@contextmanager
def promise(sentence):
    try:
        yield
    except Exception as error:
        broken.append(sentence)
        where = traceback.extract_tb(error.__traceback__)[-1]
        print(f"not ok - {sentence}: {type(error).__name__}: {error} (line {where.lineno}: {where.line})", flush=True)
    else:
        print(f"ok - {sentence}", flush=True)


def sum_up():
    sys.exit(1 if broken else 0)
