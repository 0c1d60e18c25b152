"""curl, as in the README: an event stream with -N, polls that follow their cursor, a push."""

import json
import os
import select
import subprocess
import time

from promises import promise, sum_up

PLAIN, API, TOKEN, PUSH_KEY = (os.environ[name] for name in ("PLAIN", "API", "TOKEN", "PUSH_KEY"))
SECONDS = 10
BEARER = f"Authorization: Bearer {TOKEN}"


def curl(*arguments):
    done = subprocess.run(["curl", "--silent", "--show-error", "--max-time", "30", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def push(**message):
    url, key = f"http://{API}/push", f"Authorization: Bearer {PUSH_KEY}"
    return curl("-X", "POST", url, "-H", key, "-H", "Content-Type: application/json", "-d", json.dumps(message))


def poll(query):
    return json.loads(curl("-H", BEARER, f"http://{PLAIN}/realtime/poll?{query}"))


class Stream:
    """`curl -N`, read line by line as it comes."""

    def __init__(self, query, *arguments):
        command = ["curl", "-sN", "-H", BEARER, *arguments, f"http://{PLAIN}/realtime/sse?{query}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def line(self, start):
        """The next line that starts so; others before it are passed over."""
        deadline = time.monotonic() + SECONDS
        while True:
            line, found, rest = self.unread.partition(b"\n")
            if found:
                self.unread = rest
                if line.decode().startswith(start):
                    return line.decode()[len(start):].strip()
                continue
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            assert ready, f"no line `{start}…` within {SECONDS} s"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            assert chunk, f"the stream ended before a line `{start}…`"
            self.unread += chunk

    def event(self, name):
        """The id and the data of the next event of a name."""
        while True:
            fields = self.block()
            if fields.get("event") == name:
                return fields.get("id"), json.loads(fields["data"])

    def block(self):
        fields = {}
        while line := self.line(""):
            field, _, value = line.partition(":")
            fields[field] = value.strip()
        return fields


with promise("curl -N sees an event as soon as it is pushed"):
    with Stream("channels=orders.curl", "-i") as stream:
        assert stream.line("HTTP/1.1 ").startswith("200")
        stream.event("subscribed")
        push(channel="orders.curl", data={"n": 1})
        assert stream.event("message")[1]["data"] == {"n": 1}

with promise("the headers keep proxies from holding the stream back"):
    with Stream("channels=orders.curl", "-i") as stream:
        headers = [stream.line("").lower() for _ in range(6)]
        for expected in ("content-type: text/event-stream", "cache-control: no-store, no-transform", "x-accel-buffering: no"):
            assert expected in headers, headers

with promise("Last-Event-ID resumes a stream without loss or repetition"):
    with Stream("channels=orders.resume") as stream:
        stream.event("subscribed")
        push(channel="orders.resume", data=1)
        cursor, message = stream.event("message")
        assert message["data"] == 1
    push(channel="orders.resume", data=2)
    with Stream("", "-H", f"Last-Event-ID: {cursor}") as stream:
        assert stream.event("message")[1]["data"] == 2

with promise("a poll answers with a cursor, and the next one goes on from it"):
    first = poll("channels=orders.poll&wait=1")
    push(channel="orders.poll", data="a")
    answers = [first]
    for _ in range(5):
        answers.append(poll(f"cursor={answers[-1]['cursor']}&wait=2"))
        heard = [it["data"] for it in answers[-1]["messages"] if it["type"] == "message"]
        if heard:
            break
    assert heard == ["a"], answers
    again = poll(f"cursor={answers[-2]['cursor']}&wait=1")
    assert [it.get("data") for it in again["messages"] if it["type"] == "message"] == ["a"], again
    assert answers[-1]["retry"] == 0

with promise("a poll without credentials says so with its status"):
    status = curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{PLAIN}/realtime/poll?channels=orders.poll")
    assert status == "403", status

with promise("a push without the key is refused as problem+json"):
    answer = curl("-i", "-X", "POST", f"http://{API}/push", "-d", "{}")
    assert answer.startswith("HTTP/1.1 401") and "application/problem+json" in answer.lower(), answer

with promise("health, readiness and metrics answer without a key"):
    for path in ("healthz", "readyz"):
        assert curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{API}/{path}") == "200", path
    assert "outrigger_" in curl(f"http://{API}/metrics")

sum_up()
