"""Starts a backend and Outrigger before it, runs each client against them, and sums up.

A client is a program of its own that prints `ok - promise` or `not ok - promise: why`, and exits with 0 or 1. It finds
the servers in PLAIN, SECURE, API, PUSH_KEY and TOKEN.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from pathlib import Path

import jwt

HERE = Path(__file__).parent
OUTRIGGER = os.environ["OUTRIGGER"]
CLIENTS = {
    "signatures": [sys.executable, "-B", HERE / "standard_webhooks.py"],
    "documents": [sys.executable, "-B", HERE / "documents.py"],
    "ws": ["node", HERE / "node/ws.mjs"],
    "websockets": [sys.executable, "-B", HERE / "websockets_client.py"],
    "curl": [sys.executable, "-B", HERE / "curl_client.py"],
    "chromium": ["node", HERE / "node/chromium.mjs"],
    "console": ["node", HERE / "node/console.mjs"],
    "examples": [sys.executable, "-B", HERE / "examples.py"],
    "pages": [sys.executable, "-B", HERE / "pages.py"],
    "demo": ["node", HERE / "node/demo.mjs"],
}
SECONDS_PER_CLIENT = 120
SECONDS_TO_START = 20


def main(names):
    unknown = set(names) - set(CLIENTS)
    if unknown:
        sys.exit(f"no such client: {', '.join(unknown)}; there are {', '.join(CLIENTS)}")
    failed = []
    with Servers() as servers:
        for name in names or CLIENTS:
            print(f"# {name}", flush=True)
            if not run(CLIENTS[name], servers.environment):
                failed.append(name)
        if not servers.end_cleanly():
            failed.append("the end")
    print(f"# failed: {', '.join(failed) or 'none'}")
    sys.exit(1 if failed else 0)


def run(command, environment):
    try:
        return subprocess.run(command, env=environment, timeout=SECONDS_PER_CLIENT).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"not ok - it ends within {SECONDS_PER_CLIENT} s")
    except FileNotFoundError as error:
        print(f"not ok - it can be run: {error}")
    return False


class Servers:
    """The backend and Outrigger, on free ports with fresh secrets."""

    def __enter__(self):
        plain, tls, api = free_ports(3)
        self.environment = os.environ | {
            "PLAIN_PORT": str(plain),
            "TLS_PORT": str(tls),
            "API_PORT": str(api),
            "PLAIN": f"127.0.0.1:{plain}",
            "SECURE": f"127.0.0.1:{tls}",
            "API": f"127.0.0.1:{api}",
            "JWT_SECRET": secrets.token_hex(32),
            "PUSH_KEY": secrets.token_hex(16),
            "WEBHOOK_SECRET": "whsec_" + b64encode(secrets.token_bytes(24)).decode(),
        }
        claims = {"sub": "42", "exp": int(time.time()) + 3600, "channels": ["room.*"]}
        self.environment["TOKEN"] = jwt.encode(claims, self.environment["JWT_SECRET"], algorithm="HS256")
        self.backend = self.outrigger = None
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        command = [sys.executable, "-B", HERE / "backend.py"]
        self.backend = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        self.environment["BACKEND_PORT"] = self.backend.stdout.readline().strip()
        command = [OUTRIGGER, "run", "--config", HERE / "outrigger.yaml"]
        self.log = open("target/external/outrigger.log", "w+")
        self.outrigger = subprocess.Popen(command, env=self.environment, stderr=self.log)
        self.wait_until_ready()

    def wait_until_ready(self):
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and self.outrigger.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.environment['API']}/readyz", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)  # There is no event to wait for before it listens.
        self.show_log()
        sys.exit("Outrigger did not become ready")

    def end_cleanly(self):
        self.outrigger.send_signal(signal.SIGTERM)
        try:
            status = self.outrigger.wait(timeout=20)
        except subprocess.TimeoutExpired:
            status = "still running after 20 s"
        if status == 0:
            print("ok - SIGTERM drains the node, and it ends with 0")
            return True
        print(f"not ok - SIGTERM drains the node, and it ends with 0: {status}")
        self.show_log()
        return False

    def show_log(self):
        self.log.seek(0)
        shutil.copyfileobj(self.log, sys.stderr)

    def __exit__(self, *_):
        for process in filter(None, (self.outrigger, self.backend)):
            process.kill()
            process.wait()


def free_ports(count):
    """Ports nobody listens on: held all at once, so that they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [it.getsockname()[1] for it in held]
    for it in held:
        it.close()
    return ports


if __name__ == "__main__":
    main(sys.argv[1:])
