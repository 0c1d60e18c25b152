"""The examples as they are, each with its own outrigger.yaml before it: through TLS with a cookie login, a publication
the backend checks, a push of its own, and an Outrigger-Push header. Only the ports of Outrigger are others.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from websockets_client import SECONDS, TRUSTING, Client
from websockets.asyncio.client import connect

from promises import promise, sum_up

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PROGRAMS = {
    "python-backend": [sys.executable, "-B", "app.py"],
    "node-backend": ["node", "app.mjs"],
    "php-backend": ["php", "-S", "127.0.0.1:{port}", "index.php"],
}


def main():
    for name, command in PROGRAMS.items():
        if not (EXAMPLES / name).is_dir():
            continue
        if shutil.which(command[0]) is None:
            print(f"# {name} is NOT tried: {command[0]} is not installed")
            continue
        with promise(f"{name}: it runs beside Outrigger as it is"), running(EXAMPLES / name, command) as secure:
            asyncio.run(try_it(name, secure))


async def try_it(name, secure):
    base, cookie = f"https://{secure}", {}

    async def post(path, form="", headers=None):
        request = urllib.request.Request(base + path, form.encode(), headers or {})
        return await asyncio.to_thread(urllib.request.urlopen, request, timeout=SECONDS, context=TRUSTING)

    with promise(f"{name}: its page comes through TLS, and a login gives a cookie"):
        assert b"<" in (await asyncio.to_thread(urllib.request.urlopen, base, timeout=SECONDS, context=TRUSTING)).read()
        cookie = {"Cookie": (await post("/login", "name=ada")).headers["Set-Cookie"].split(";")[0]}

    url = f"wss://{secure}/realtime"
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(connect(url, additional_headers=it, ssl=TRUSTING, proxy=None))
                   for it in (cookie, {})]
        ada, reader = map(Client, sockets)

        with promise(f"{name}: the cookie says who it is, and without one a client may read"):
            assert (await ada.next("connected"))["userId"] == "ada"
            assert (await reader.next("connected"))["userId"] is None
            await reader.subscribe("room.lobby")
            await reader.subscribe("orders")

        with promise(f"{name}: a publication is checked and written anew by the backend"):
            await ada.send(type="publish", channel="room.lobby", data={"text": " ahoy ", "from": "a liar"}, ref=1)
            assert (await ada.next("ack"))["ref"] == 1
            message = await reader.next("message")
            assert (message["data"], message["userId"]) == ({"from": "ada", "text": "ahoy"}, "ada"), message
            await reader.send(type="publish", channel="room.lobby", data={"text": "me too"}, ref=2)
            assert (await reader.next("error"))["ref"] == 2

        with promise(f"{name}: it pushes, and everybody hears it"):
            await post("/announce", "text=land", cookie)
            assert (await reader.next("message"))["data"]["text"] == "land"

        with promise(f"{name}: one header on an ordinary response is a push"):
            response = await post("/orders", "item=oar", cookie)
            message = await reader.next("message")
            assert (message["channel"], message["event"], message["data"]["item"]) == ("orders", "created", "oar"), message
            assert response.headers["Outrigger-Push"] is None


@contextlib.contextmanager
def running(directory, command):
    """The example and Outrigger; answers where TLS is."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    secure, plain, api = (it.getsockname()[1] for it in held)
    for it in held:
        it.close()
    config = (directory / "outrigger.yaml").read_text()
    for usual, port in (("8443", secure), ("8080", plain), ("8700", api)):
        config = config.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
    backend = int(re.search(r"url: http://127\.0\.0\.1:(\d+)", config).group(1))
    rewritten = Path("target/external", f"{directory.name}.yaml")
    rewritten.write_text(config)
    with socket.create_server(("127.0.0.1", backend), reuse_port=False):
        pass  # Somebody else's program on this port would be tested instead.
    environment = {name: value for name, value in os.environ.items() if name not in ("WEBHOOK_SECRET", "PUSH_KEY")}
    environment["OUTRIGGER_API"] = f"http://127.0.0.1:{api}"
    environment["PHP_CLI_SERVER_WORKERS"] = "4"
    programs = []
    try:
        programs.append(started([it.format(port=backend) for it in command], environment, directory))
        wait_for(backend, programs[-1])
        outrigger = [os.environ["OUTRIGGER"], "run", "--config", rewritten]
        programs.append(started(outrigger, environment))
        wait_for(secure, programs[-1])
        yield f"127.0.0.1:{secure}"
    finally:
        for program in programs:
            # The whole group: PHP's server leaves its workers behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()


def started(command, environment, directory=None):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=directory, env=environment, start_new_session=True, **quiet)


def wait_for(port, program):
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert program.poll() is None, f"it ended with {program.returncode}"
            assert time.monotonic() < deadline, f"nothing listens on {port}"
            time.sleep(0.05)  # There is no event to wait for before it listens.


if __name__ == "__main__":
    main()
    sum_up()
