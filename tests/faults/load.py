"""The application's side: pushes without end, each under an id, and repeats what it does not know to be taken."""

import asyncio
import json
import time

import wire


class Publisher:
    """One publication after the other in each channel, so that order means something."""

    def __init__(self, port, key, channels, every, size=0):
        self.port, self.every = port, every
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.filler = "x" * size
        self.acknowledged = dict.fromkeys(channels, 0)
        self.attempts = self.unknown = self.refused = self.duplicates = 0
        self.durable = {}
        self.times = []
        self.is_pushing = False
        self.tasks = []

    def start(self):
        self.is_pushing = True
        self.tasks = [asyncio.create_task(self._push_on(it)) for it in self.acknowledged]

    async def finish(self):
        """Pushes no more, once the last of each channel is acknowledged."""
        self.is_pushing = False
        await asyncio.gather(*self.tasks)

    async def stop(self):
        for task in self.tasks:
            await wire.end(task)

    async def _push_on(self, channel):
        http = wire.Http(self.port)
        while self.is_pushing:
            await self.push(http, channel)
            await asyncio.sleep(self.every)
        http.close()

    async def once_more(self):
        """The last publication of each channel: whoever has it and what came before has all."""
        http = wire.Http(self.port)
        for channel in self.acknowledged:
            await self.push(http, channel)
        http.close()

    async def push(self, http, channel):
        number = self.acknowledged[channel] + 1
        body = json.dumps({"channel": channel, "id": f"{channel}-{number}", "data": {"n": number, "filler": self.filler}})
        while True:
            self.attempts += 1
            begun = time.monotonic()
            try:
                status, answer = await http.ask("POST", "/push", body.encode(), self.headers, timeout=5)
            except wire.Gone:
                self.unknown += 1
                await asyncio.sleep(0.05)
                continue
            if status == 200:
                self.times.append(time.monotonic() - begun)
                result = json.loads(answer)["results"][0]
                self.duplicates += result["duplicate"]
                self.durable[result["durable"]] = self.durable.get(result["durable"], 0) + 1
                self.acknowledged[channel] = number
                return
            if status not in (503, 504):
                raise AssertionError(f"a push was answered {status}: {answer[:200]}")
            self.refused += status == 503
            self.unknown += status == 504
            await asyncio.sleep(0.05)

    def take_in(self, other):
        """One book for both."""
        self.acknowledged.update(other.acknowledged)
        self.attempts += other.attempts
        self.unknown += other.unknown
        self.refused += other.refused
        self.duplicates += other.duplicates
        self.times += other.times
        for name, count in other.durable.items():
            self.durable[name] = self.durable.get(name, 0) + count

    def slowest(self, share=0.99):
        """Within so many milliseconds all but a hundredth of the pushes were acknowledged."""
        times = sorted(self.times)
        return 1000 * times[min(len(times) - 1, int(len(times) * share))] if times else 0

    def __str__(self):
        acknowledged = sum(self.acknowledged.values())
        durable = ", ".join(f"{count} {name}" for name, count in sorted(self.durable.items()))
        return (f"pushes: {acknowledged} acknowledged ({durable}) in {self.attempts} attempts, {self.unknown} unknown and "
                f"{self.refused} refused ones repeated, {self.duplicates} found to be there already; "
                f"99 % within {self.slowest():.0f} ms")


class Visitor:
    """Somebody who uses the proxied site all the while."""

    def __init__(self, port):
        self.port = port
        self.answers = {}
        self.task = None

    def start(self):
        self.task = asyncio.create_task(self._visit())

    async def stop(self):
        await wire.end(self.task)

    async def _visit(self):
        http = wire.Http(self.port)
        while True:
            try:
                answer, _ = await http.ask("GET", "/page", timeout=5)
            except wire.Gone:
                answer = "none"
            self.answers[answer] = self.answers.get(answer, 0) + 1
            await asyncio.sleep(0.05)

    def __str__(self):
        return "site: " + ", ".join(f"{count} × {answer}" for answer, count in sorted(self.answers.items(), key=str))
