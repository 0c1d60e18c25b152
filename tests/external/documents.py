"""Every piece of configuration in the README and in docs/ is one that `outrigger check` accepts."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from promises import promise, sum_up

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Kubernetes has its own YAML; files that are named are not there.
NOT_OURS = re.compile(r"^containers:|cert:|file:|ca:", re.MULTILINE)

# What a reader would have set.
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:6379")
os.environ.setdefault("REDIS_PASSWORD", "secret")

for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
    for at, block in enumerate(BLOCK.findall(page.read_text()), start=1):
        if NOT_OURS.search(block):
            continue
        with promise(f"{page.name}: configuration {at} is accepted"), tempfile.TemporaryDirectory() as directory:
            config = Path(directory, "outrigger.yaml")
            config.write_text(block)
            command = [os.environ["OUTRIGGER"], "check", "--config", config]
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
            assert done.returncode == 0, done.stdout + done.stderr

sum_up()
