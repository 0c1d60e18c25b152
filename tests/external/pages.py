"""The pages of the examples, each as it is in headless Chromium, with its own outrigger.yaml before it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from examples import EXAMPLES, PROGRAMS as BACKENDS, running
from promises import promise, sum_up

PROGRAMS = BACKENDS | {
    "progress-bar": [sys.executable, "-B", "app.py"],
    "presence-cursors": ["node", "app.mjs"],
    "live-table": ["php", "-S", "127.0.0.1:{port}", "index.php"],
}


def main():
    os.environ["PACE"] = "0.02"
    with tempfile.TemporaryDirectory() as directory:
        os.environ["STOCK_FILE"] = f"{directory}/stock.json"
        for name, command in PROGRAMS.items():
            if shutil.which(command[0]) is None:
                print(f"# {name} is NOT tried: {command[0]} is not installed")
                continue
            with promise(f"{name}: it runs beside Outrigger as it is, and its page works"):
                with running(EXAMPLES / name, command) as secure:
                    script = Path(__file__).with_name("node") / "pages.mjs"
                    assert subprocess.run(["node", script, name, secure], timeout=90).returncode == 0


if __name__ == "__main__":
    main()
    sum_up()
