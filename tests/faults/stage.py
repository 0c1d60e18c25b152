"""What every scenario starts with and ends with: a node, a backend, clients on all transports, load, and the books."""

import asyncio
import tempfile
import time
from pathlib import Path

from clients import EventStreamClient, PollClient, Talker, WebSocketClient
from load import Publisher, Visitor
from node import KEY, Backend, Node, token
from view import Verdict

LOAD = [f"load.{at}" for at in range(4)]
OF_EACH_TRANSPORT = 4
TALKERS = 2
PUSH_EVERY = 0.02
# Nothing takes so long; it turns a hang into a failure.
PATIENCE = 20


class Skipped(Exception):
    """This build cannot do what the scenario is about."""


class Stage:
    def __init__(self, program, seconds):
        self.program, self.seconds = program, seconds
        self.folder = Path(tempfile.mkdtemp(prefix="outrigger-faults-"))
        self.backend = self.node = self.publisher = self.visitor = None
        self.clients, self.talkers, self.others = [], [], []
        self.notes, self.failures = [], []
        self.skipped = None

    async def open(self, **changes):
        """Node, backend and clients. `changes` are sections of the configuration."""
        self.backend = Backend(self.folder)
        await self.backend.start()
        self.node = Node(self.program, self.folder, self.backend.port, changes)
        for key in changes:
            if not self.node.knows(key):
                raise Skipped(f"this build has no `{key}:`")
        await self.node.start()
        self.visitor = Visitor(self.node.port)
        self.publisher = Publisher(self.node.api_port, KEY, LOAD, PUSH_EVERY)
        self.talkers = [
            Talker(f"talker {at}", self.node.port, token(f"talker-{at}"), f"talk.{at}") for at in range(TALKERS)
        ]
        for talker in self.talkers:
            talker.start()
        for kind in (WebSocketClient, EventStreamClient, PollClient):
            for at in range(OF_EACH_TRANSPORT):
                channels = [LOAD[at % 4], LOAD[(at + 1) % 4], f"talk.{at % TALKERS}"]
                self.add(kind, f"{kind.transport} {at}", self.node.port, channels)

    def keeping(self, fsync):
        """The section that lets publications outlive the process."""
        return {"path": str(self.folder / "data"), "fsync": fsync}

    def add(self, kind, name, port, channels):
        """One more client, which comes at once."""
        client = kind(name, port, token(name.replace(" ", "-")), channels)
        client.start()
        self.clients.append(client)
        return client

    async def begin(self):
        """The load, once every client follows its channels: each of them is owed everything."""
        await self.until("every client follows its channels", lambda: all(it.is_following for it in self.everybody()))
        self.publisher.start()
        self.visitor.start()
        for talker in self.talkers:
            talker.begin()

    def everybody(self):
        return [*self.clients, *self.talkers]

    def of(self, transport):
        return [it for it in self.clients if it.transport == transport]

    async def run_for(self, share=1.0):
        """Lets the load go on for a part of the time that the scenario has."""
        await asyncio.sleep(self.seconds * share)

    async def until(self, what, is_so):
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: did not happen within {PATIENCE} s")
            await asyncio.sleep(0.02)

    def acknowledged(self):
        by_talkers = {it.channel: it.acknowledged for it in self.talkers}
        return {**self.publisher.acknowledged, **by_talkers}

    def note(self, text):
        self.notes.append(str(text))

    def expect(self, is_so, text):
        if not is_so:
            self.failures.append(text)

    async def settle(self):
        """Ends the load once nothing is broken any more, and waits until everybody has the last publication."""
        await asyncio.wait_for(self.publisher.finish(), PATIENCE)
        for talker in self.talkers:
            await asyncio.wait_for(talker.finish(), PATIENCE)
        await self.until("everybody is back", lambda: all(it.is_following for it in self.everybody()))
        await asyncio.wait_for(self.publisher.once_more(), PATIENCE)
        acknowledged = self.acknowledged()
        try:
            has_all = lambda: all(it.has(acknowledged) for it in self.everybody())
            await self.until("everybody has the last publication", has_all)
        except AssertionError as error:
            self.failures.append(str(error))
        await self.visitor.stop()
        self.judge(acknowledged)
        ledger = await self.node.ledger()
        self.expect(ledger.adds_up(), "the node's ledger does not add up")
        self.note(ledger if self.node.starts == 1 else f"{ledger}, since the last of {self.node.starts} starts")
        return ledger

    def judge(self, acknowledged):
        self.verdict = Verdict()
        for client in self.everybody():
            self.verdict.add(client.name, client.view, {it: acknowledged[it] for it in client.channels})
        self.note(self.publisher)
        said = sum(it.acknowledged for it in self.talkers)
        refused = {}
        for talker in self.talkers:
            for code, count in talker.refused.items():
                refused[code] = refused.get(code, 0) + count
        answers = ", ".join(f"{count} × {code}" for code, count in sorted(refused.items())) or "none"
        self.note(f"clients' own: {said} acknowledged by way of the webhook, errors {answers}")
        self.note(self.verdict)
        self.note(self.visitor)
        self.expect(self.verdict.lost == 0, f"lost without a word: {self.verdict.examples}")
        self.expect(self.verdict.disorder == 0, f"out of order: {self.verdict.examples}")

    async def close(self):
        running = [it for it in [*self.everybody(), *self.others, self.publisher, self.visitor] if it]
        await asyncio.gather(*(it.stop() for it in running))
        for child in (self.node, self.backend):
            if child:
                child.kill()
