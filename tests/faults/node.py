"""The node and the backend, as child processes of the suite."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import wire

HERE = Path(__file__).parent
KEY = "the-key-of-the-fault-suite"
JWT_SECRET = "the fault suite's secret, thirty-two bytes"
STARTS_WITHIN = 20


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def token(user):
    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")
    claims = {"sub": user, "exp": int(time.time()) + 3600}
    signed = b".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + part(hmac.digest(JWT_SECRET.encode(), signed, hashlib.sha256))).decode()


class Child:
    """A process that does not outlive the suite."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def run(self, command, log):
        with open(self.folder / log, "ab") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.folder)

    def signal(self, number):
        self.process.send_signal(number)

    async def ended(self, within):
        """The exit code, or None if it is still there."""
        deadline = time.monotonic() + within
        while self.process.poll() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return self.process.poll()

    def kill(self):
        """Also one that was stopped."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Backend(Child):
    def __init__(self, folder):
        super().__init__(folder)
        self.port, self.control_port = free_port(), free_port()

    async def start(self):
        command = [sys.executable, "-B", HERE / "backend.py", self.port, self.control_port]
        self.run(list(map(str, command)), "backend.log")
        await self.behave("ok")

    async def behave(self, mode):
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.control_port)
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                await asyncio.sleep(0.05)
        writer.write(f"{mode}\n".encode())
        assert await reader.readline() == b"done\n"
        writer.close()


class Node(Child):
    def __init__(self, program, folder, backend_port, changes):
        super().__init__(folder)
        self.program = program
        self.port, self.api_port = free_port(), free_port()
        self.config = self._config(backend_port)
        self.config.update(changes)
        self.file = folder / "outrigger.yaml"
        self.starts = 0
        self.api = wire.Http(self.api_port)

    def _config(self, backend_port):
        history = {"size": 20000, "ttl": "10m"}
        drain = {"delay": "0s", "deadline": "10s"}
        if self.knows("drain", "spread"):
            drain["spread"] = "500ms"
        return {
            "listen": [{"address": f"127.0.0.1:{self.port}"}],
            "upstream": {"url": f"http://127.0.0.1:{backend_port}", "response_timeout": "2s", "connect_timeout": "1s"},
            "realtime": {"heartbeat": {"interval": "500ms", "timeout": "1500ms"}, "sse": {"heartbeat": "500ms"},
                         "outbox": "1MiB"},
            "auth": {"jwt": {"secret": JWT_SECRET}},
            "channels": [{"match": "talk.*", "subscribe": "public", "publish": "webhook+broadcast", "history": history},
                         {"match": "oldest.*", "subscribe": "public", "history": history, "when_slow": "drop_oldest"},
                         {"match": "load.*", "subscribe": "public", "history": history}],
            "webhooks": {"url": "/hooks", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "timeout": "500ms"},
            "api": {"listen": f"127.0.0.1:{self.api_port}",
                    "keys": [{"name": "faults", "key": KEY, "scope": ["admin"]}]},
            "limits": {"messages_per_second": {"rate": 1000, "burst": 1000}},
            "drain": drain,
            "telemetry": {"log": "warn"},
        }

    def knows(self, *keys):
        """Whether this build has a configuration key."""
        schema = json.loads(subprocess.run([self.program, "schema"], capture_output=True, check=True).stdout)
        at = schema
        for key in keys:
            at = at.get("properties", {}).get(key)
            if at is None:
                return False
            while "$ref" in at or "anyOf" in at:
                at = at["anyOf"][0] if "anyOf" in at else schema["$defs"][at["$ref"].rsplit("/", 1)[1]]
        return True

    def write(self, text=None):
        """YAML is a superset of JSON."""
        self.file.write_text(json.dumps(self.config, indent=1) if text is None else text)

    async def start(self):
        self.starts += 1
        if self.starts == 1:
            self.write()
        self.run([self.program, "run", "--config", str(self.file)], "node.log")
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if (await self.api.ask("GET", "/readyz", timeout=2))[0] == 200:
                    return
            except wire.Gone:
                await asyncio.sleep(0.02)
        raise AssertionError("the node did not start")

    async def terminate(self, within=15):
        """The exit code of a drain."""
        self.signal(signal.SIGTERM)
        return await self.ended(within)

    async def ask(self, method, path):
        status, body = await self.api.ask(method, path, headers={"Authorization": f"Bearer {KEY}"})
        return status, json.loads(body)

    async def ledger(self):
        """Expected, flushed and queued, and what was dropped by reason."""
        text = (await self.api.ask("GET", "/metrics"))[1].decode()
        one = {name: int(value) for name, value in re.findall(r"^outrigger_deliveries_(\w+?)(?:_total)? (\d+)$", text, re.M)}
        dropped = dict(re.findall(r'^outrigger_deliveries_dropped_total\{reason="(\w+)"\} (\d+)$', text, re.M))
        return Ledger(one["expected"], one["flushed"], one["queued"], {why: int(count) for why, count in dropped.items()})

    def last_words(self, lines=15):
        return (self.folder / "node.log").read_text(errors="replace").splitlines()[-lines:]


class Ledger:
    def __init__(self, expected, flushed, queued, dropped):
        self.expected, self.flushed, self.queued, self.dropped = expected, flushed, queued, dropped

    def adds_up(self):
        return self.expected == self.flushed + self.queued + sum(self.dropped.values())

    def __str__(self):
        reasons = ", ".join(f"{why} {count}" for why, count in self.dropped.items() if count) or "nothing"
        return (f"node: expected {self.expected} = flushed {self.flushed} + queued {self.queued} + "
                f"dropped {sum(self.dropped.values())} ({reasons})")
