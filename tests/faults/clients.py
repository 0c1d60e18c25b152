"""Clients on the three transports that come back by themselves, each by its own kind of position, and keep a view."""

import asyncio
import json
import random
import time
from urllib.parse import quote

import wire
from view import View

# A client that hears nothing for so long, heartbeats included, takes the connection for dead. The node's are each 0.5 s.
SILENCE = 2.5
LONGEST_WAIT = 1.0


class Client:
    """Comes back until it is stopped."""

    transport = None

    def __init__(self, name, port, token, channels):
        self.name, self.port, self.token, self.channels = name, port, token, channels
        self.view = View()
        self.is_following = False
        self.losses = 0
        self.ends = []
        self.wait = 0.05
        self.task = None

    def start(self):
        self.task = asyncio.create_task(self._live())

    async def stop(self):
        await wire.end(self.task)

    async def _live(self):
        while True:
            try:
                await self._connection()
            except wire.Gone as gone:
                self.losses += 1
                self.ends.append(str(gone))
            self.is_following = False
            await asyncio.sleep(self.wait * random.uniform(0.5, 1))
            self.wait = min(self.wait * 2, LONGEST_WAIT)

    async def _connection(self):
        raise NotImplementedError

    def following(self):
        self.is_following = True
        self.wait = 0.05

    def has(self, acknowledged):
        return all(self.view.last(it) == acknowledged[it] for it in self.channels)

    def hear(self, message):
        self.view.message(message["channel"], message["data"]["n"], message["id"])


class WebSocketClient(Client):
    """Comes back with the position of the last message of each channel."""

    transport = "websocket"
    receive_buffer = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.positions = {}
        self.socket = None

    async def _connection(self):
        self.socket = await wire.WebSocket.open(self.port, f"/realtime?token={self.token}", self.receive_buffer)
        try:
            while True:
                try:
                    text = await self._next()
                except asyncio.TimeoutError:
                    raise wire.Gone("silence") from None
                self.on_message(json.loads(text))
        finally:
            self.socket.close()

    async def _next(self):
        receiving = asyncio.ensure_future(self.socket.receive())
        try:
            while True:
                done, _ = await asyncio.wait([receiving], timeout=SILENCE / 2)
                if done:
                    return receiving.result()
                # A ping is a sign of life too.
                if time.monotonic() - self.socket.heard_at > SILENCE:
                    raise asyncio.TimeoutError
        finally:
            receiving.cancel()

    def say(self, message):
        self.socket.send(json.dumps(message))

    def on_message(self, it):
        kind, channel = it["type"], it.get("channel")
        if kind == "connected":
            self.waiting = set(self.channels)
            for each in self.channels:
                self.say({"type": "subscribe", "channel": each, "since": self.positions.get(each)})
        elif kind == "subscribed":
            if channel in self.positions and not it.get("recovered"):
                self.view.told(channel)
            if not it.get("recovered"):
                self.positions[channel] = position(it)
            self.waiting.discard(channel)
            if not self.waiting:
                self.following()
        elif kind == "gap":
            self.view.told(channel)
            self.positions[channel] = position(it)
        elif kind == "message":
            self.positions[channel].update(seq=it["seq"], id=it["id"])
            self.hear(it)
        elif kind == "reconnect":
            self.wait = min(it["afterMs"] / 1000, LONGEST_WAIT)
            raise wire.Gone("reconnect")
        elif kind == "error" and it.get("retryable") and channel in self.channels and not it.get("ref"):
            raise wire.Gone(f"error {it['code']}")


def position(message):
    return {key: message[key] for key in ("epoch", "seq", "id") if message.get(key) is not None}


class SlowClient(WebSocketClient):
    """Looks away when told to, with little room for what comes meanwhile."""

    receive_buffer = 4096

    async def _next(self):
        # It does not care how long it hears nothing: it is not looking.
        return await self.socket.receive()

    def look_away(self):
        self.socket.writer.transport.pause_reading()

    def look_back(self):
        if not self.socket.writer.transport.is_closing():
            self.socket.writer.transport.resume_reading()


class EventStreamClient(Client):
    """Comes back with the last `id:` line as Last-Event-ID, as an EventSource does."""

    transport = "sse"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.cursor = None
        self.retry = None

    async def _connection(self):
        reader, writer = await wire.connect(self.port)
        try:
            path = f"/realtime/sse?channels={quote(','.join(self.channels))}&token={self.token}"
            writer.write(wire.head("GET", path, {"Last-Event-ID": self.cursor} if self.cursor else {}))
            status, _ = await wire.read_head(reader)
            if status != 200:
                raise wire.Gone(f"answered {status}")
            self.waiting = set(self.channels)
            await self._events(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise wire.Gone(type(error).__name__) from None
        finally:
            writer.transport.abort()
            self.wait = max(self.wait, min(self.retry or 0, LONGEST_WAIT))

    async def _events(self, reader):
        fields = {}
        while True:
            try:
                line = (await asyncio.wait_for(reader.readline(), SILENCE)).decode()
            except asyncio.TimeoutError:
                raise wire.Gone("silence") from None
            if not line.endswith("\n"):
                raise wire.Gone("the stream ended")
            name, _, value = line.rstrip("\n").partition(":")
            if line != "\n":
                fields[name] = value.removeprefix(" ")
                continue
            # A block counts once it is whole.
            if "retry" in fields:
                self.retry = int(fields["retry"]) / 1000
            if "id" in fields:
                self.cursor = fields["id"]
            if "data" in fields:
                self.on_event(fields.get("event", "message"), json.loads(fields["data"]))
            fields = {}

    def on_event(self, event, it):
        channel = it.get("channel")
        if event == "message":
            self.hear(it)
        elif event == "subscribed":
            self.waiting.discard(channel)
            if not self.waiting:
                self.following()
        elif event == "resumed":
            for each in it["channels"]:
                if not each["recovered"]:
                    self.view.told(each["channel"])
        elif event == "gap":
            self.view.told(channel)
        elif event in ("closed", "failure"):
            self.ends.append(f"{event} {it['code']}")
        elif event == "reconnect":
            self.ends.append("reconnect")


class PollClient(Client):
    """Comes back with the cursor of the last answer it read whole."""

    transport = "poll"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.cursor = None
        self.waiting = set(self.channels)

    async def _connection(self):
        http = wire.Http(self.port)
        try:
            while True:
                await self._poll(http)
        finally:
            http.close()

    async def _poll(self, http):
        query = f"channels={quote(','.join(self.channels))}&token={self.token}&wait=1"
        if self.cursor:
            query += f"&cursor={quote(self.cursor)}"
        status, body = await http.ask("GET", f"/realtime/poll?{query}", timeout=SILENCE)
        if status != 200:
            raise wire.Gone(f"answered {status}")
        answer = json.loads(body)
        self.cursor = answer["cursor"]
        for it in answer["messages"]:
            self.on_message(it)
        if not self.waiting:
            self.following()
        await asyncio.sleep(min(answer["retry"] / 1000, LONGEST_WAIT))

    def on_message(self, it):
        kind, channel = it["type"], it.get("channel")
        if kind == "message":
            self.hear(it)
        elif kind == "subscribed":
            self.waiting.discard(channel)
        elif kind == "resumed":
            for each in it["channels"]:
                if not each["recovered"]:
                    self.view.told(each["channel"])
        elif kind == "gap":
            self.view.told(channel)
        elif kind == "closed":
            raise wire.Gone(f"closed with {it['code']}")


class Talker(WebSocketClient):
    """Publishes by way of the backend's webhook, one after the other, and repeats what was not acknowledged."""

    def __init__(self, name, port, token, channel):
        super().__init__(name, port, token, [channel])
        self.channel = channel
        self.answers = asyncio.Queue()
        self.acknowledged = 0
        self.refused = {}
        self.is_talking = False
        self.talk = None

    def begin(self):
        self.is_talking = True
        self.talk = asyncio.create_task(self._talk())

    async def _talk(self):
        number = 1
        while self.is_talking or self.acknowledged < number:
            number = self.acknowledged + 1
            if self.is_following:
                ident = f"say-{number}"
                self.say({"type": "publish", "channel": self.channel, "data": {"n": number}, "id": ident, "ref": ident})
                await self._answer(ident, number)
            await asyncio.sleep(0.02)

    async def _answer(self, ref, number):
        deadline = time.monotonic() + 3
        while (left := deadline - time.monotonic()) > 0 and self.is_following:
            try:
                answer = await asyncio.wait_for(self.answers.get(), min(left, 0.2))
            except asyncio.TimeoutError:
                continue
            if answer.get("ref") != ref:
                continue
            if answer["type"] == "ack":
                self.acknowledged = number
            else:
                self.refused[answer["code"]] = self.refused.get(answer["code"], 0) + 1
                await asyncio.sleep(0.1)
            return

    async def finish(self):
        """Says no more, once the last one is acknowledged."""
        self.is_talking = False
        await self.talk

    async def stop(self):
        await wire.end(self.talk)
        await super().stop()

    def on_message(self, it):
        if it.get("ref") and it["type"] in ("ack", "error"):
            self.answers.put_nowait(it)
        else:
            super().on_message(it)
