#!/usr/bin/env python3
"""Holds the golden webhook signatures against the Standard Webhooks library (PyPI: standardwebhooks)."""

import sys
from datetime import datetime, timezone
from pathlib import Path

from standardwebhooks.webhooks import Webhook

FIXTURES = Path(__file__).parent.parent / "fixtures" / "webhooks"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SENT = datetime.fromtimestamp(1767225600, timezone.utc)


def main() -> int:
    webhook = Webhook(SECRET)
    wrong = 0
    for line in (FIXTURES / "signatures.txt").read_text().splitlines():
        name, signature = line.split(" ")
        body = (FIXTURES / f"{name}.json").read_text().rstrip("\n")
        expected = webhook.sign("msg_1", SENT, body)
        if signature != expected:
            print(f"{name}: {signature} is not {expected}", file=sys.stderr)
            wrong += 1
    print(f"{'not ok' if wrong else 'ok'} - the golden webhooks are signed as the library signs them")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
