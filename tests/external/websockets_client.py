"""Python's websockets package: tokens in headers and subprotocols, cookie sessions, origins, pushes, webhooks."""

import asyncio
import json
import os
import ssl
import urllib.request
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from promises import promise, sum_up

PLAIN, SECURE, API = (os.environ[name] for name in ("PLAIN", "SECURE", "API"))
TOKEN, PUSH_KEY = os.environ["TOKEN"], os.environ["PUSH_KEY"]
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 10
# The certificate is signed by itself.
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


class Client:
    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send(json.dumps(message))

    async def next(self, kind):
        """The next message of a kind; others before it are passed over."""
        async with asyncio.timeout(SECONDS):
            while (message := json.loads(await self.socket.recv()))["type"] != kind:
                pass
            return message

    async def subscribe(self, channel, **fields):
        await self.send(type="subscribe", channel=channel, **fields)
        return await self.next("subscribed")

    async def end(self):
        """The code and reason of the close that must come."""
        async with asyncio.timeout(SECONDS):
            try:
                while True:
                    await self.socket.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code, closed.rcvd.reason


@asynccontextmanager
async def client(url=f"ws://{PLAIN}/realtime", headers=BEARER, **options):
    async with connect(url, additional_headers=headers, proxy=None, **options) as socket:
        yield Client(socket)


def http(url, method="GET", body=None, headers=None):
    request = urllib.request.Request(url, method=method, data=body, headers=headers or {})
    with urllib.request.urlopen(request, timeout=SECONDS, context=TRUSTING if url.startswith("https") else None) as it:
        return it.headers, it.read()


async def push(body, kind="application/json", query=""):
    headers = {"Authorization": f"Bearer {PUSH_KEY}", "Content-Type": kind}
    _, answer = await asyncio.to_thread(http, f"http://{API}/push{query}", "POST", body, headers)
    return json.loads(answer)["results"]


async def seen():
    _, body = await asyncio.to_thread(http, f"http://{PLAIN}/seen")
    return json.loads(body)


async def log_in(user, base=f"http://{PLAIN}"):
    headers, _ = await asyncio.to_thread(http, f"{base}/login", "POST", user.encode())
    return headers["Set-Cookie"].split(";")[0]


async def main():
    with promise("a token in the Authorization header is somebody"):
        async with client() as it:
            welcome = await it.next("connected")
            assert welcome["userId"] == "42" and welcome["heartbeat"]["interval"] == 30000, welcome

    with promise("a token travels as a subprotocol"):
        protocols = ["outrigger.v1.json", f"outrigger.token.{TOKEN}"]
        async with client(headers={}, subprotocols=protocols) as it:
            assert it.socket.subprotocol == "outrigger.v1.json", it.socket.subprotocol
            assert (await it.next("connected"))["userId"] == "42"

    with promise("a bad token is closed with 1008 `Invalid token`"):
        async with client(headers={"Authorization": "Bearer not.a.token"}) as it:
            assert await it.end() == (1008, "Invalid token")

    with promise("whoever the backend does not know is refused in its own words"):
        async with client(headers={}) as it:
            assert await it.end() == (4500, "log in first")

    with promise("a page of another origin may not connect"):
        try:
            async with client(origin="https://evil.example"):
                raise AssertionError("it connected")
        except InvalidStatus as refused:
            assert refused.response.status_code == 403

    with promise("through TLS a cookie session is enough, and the backend's grants hold"):
        cookie = await log_in("alice", f"https://{SECURE}")
        async with client(f"wss://{SECURE}/realtime", {"Cookie": cookie}, ssl=TRUSTING) as it:
            assert (await it.next("connected"))["userId"] == "alice"
            assert (await it.subscribe("room.tls"))["seq"] == 0
            await it.send(type="subscribe", channel="secret.1")
            assert (await it.next("error"))["code"] == "not_allowed"

    with promise("what a client publishes is checked by the backend and heard by the others with its author"):
        cookie = await log_in("bob")
        async with client() as listener, client(headers={"Cookie": cookie}) as author:
            await listener.subscribe("room.5")
            await author.send(type="publish", channel="room.5", data={"text": "hi"}, id="m-1", ref=7)
            ack = await author.next("ack")
            assert ack["ref"] == 7 and ack["id"] == "m-1", ack
            message = await listener.next("message")
            assert (message["data"], message["userId"]) == ({"text": "hi"}, "bob"), message
            assert message["seq"] == ack["seq"]

    with promise("a push reaches a subscriber, and the receipt counts it"):
        async with client() as it:
            await it.subscribe("orders.7")
            [receipt] = await push(b'{"channel":"orders.7","event":"paid","data":{"n":7},"id":"o-7"}')
            message = await it.next("message")
            assert (message["event"], message["data"], message["id"]) == ("paid", {"n": 7}, "o-7"), message
            assert (receipt["status"], receipt["seq"], receipt["matched"]) == ("taken", message["seq"], 1), receipt

    with promise("a repeated push is recognised and delivered once"):
        async with client() as it:
            await it.subscribe("orders.8")
            body = b'{"channel":"orders.8","data":1,"id":"once"}'
            first, again = (await push(body))[0], (await push(body))[0]
            await push(b'{"channel":"orders.8","data":2}')
            assert (again["duplicate"], again["seq"]) == (True, first["seq"]), again
            assert [(await it.next("message"))["data"] for _ in range(2)] == [1, 2]

    with promise("bytes are pushed as they are, and JSON clients see them as base64"):
        async with client() as it:
            await it.subscribe("orders.9")
            await push(b"\x00\xff", "application/octet-stream", "?channel=orders.9")
            message = await it.next("message")
            assert (message["data"], message["data_base64"]) == (None, "AP8="), message

    with promise("an ordinary response with Outrigger-Push publishes its body and loses the header"):
        async with client() as it:
            await it.subscribe("orders.1")
            headers, _ = await asyncio.to_thread(
                http, f"http://{PLAIN}/orders", "POST", b'{"total":12}', {"Content-Type": "application/json"}
            )
            message = await it.next("message")
            assert (message["event"], message["data"]) == ("created", {"total": 12}), message
            assert headers["Outrigger-Push"] is None

    with promise("a reader that was away gets every long message it missed, compressed or not"):
        async with client() as it:
            position = await it.subscribe("orders.10")
        large = "x" * 5000
        for n in range(20):
            await push(json.dumps({"channel": "orders.10", "data": [n, large]}).encode())
        since = {name: position[name] for name in ("epoch", "seq")}
        for compression in ("deflate", None):
            async with client(compression=compression) as it:
                assert (await it.subscribe("orders.10", since=since))["recovered"] is True
                assert [(await it.next("message"))["data"] for _ in range(20)] == [[n, large] for n in range(20)]

    with promise("a WebSocket ping is answered, and so is ours in JSON"):
        async with client() as it:
            async with asyncio.timeout(SECONDS):
                await (await it.socket.ping())
            await it.send(type="ping")
            await it.next("pong")

    with promise("every webhook bore a signature the Standard Webhooks library accepts"):
        webhooks = await seen()
        assert {"connect", "publish"} <= {it["type"] for it in webhooks}, webhooks
        assert not [it for it in webhooks if it["type"] == "unsigned"], webhooks
        assert all(it["header"] == it["type"] and it["id"].startswith("msg_") for it in webhooks), webhooks

    with promise("nobody from outside reaches the webhook's path"):
        try:
            await asyncio.to_thread(http, f"http://{PLAIN}/webhooks/realtime", "POST", b"{}")
            raise AssertionError("it was answered")
        except urllib.error.HTTPError as error:
            assert error.code == 404


asyncio.run(main())
sum_up()
