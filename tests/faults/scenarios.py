"""What is broken, and what must hold all the same. Each takes a stage, and leaves it to the suite to clean up."""

import asyncio
import signal
import time

from clients import EventStreamClient, PollClient, SlowClient, WebSocketClient
from load import Publisher
from node import KEY
from relay import Relay

SCENARIOS = {}

# Whoever looks away answers no ping either, and is to be closed for being slow.
PATIENT = {"heartbeat": {"interval": "500ms", "timeout": "60s"}, "sse": {"heartbeat": "500ms"}, "outbox": "256KiB"}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
async def slow_client(stage):
    """Clients that do not read: one is closed and comes back, one loses its oldest and is told"""
    # Long messages: kernels hold some megabytes for a reader who looks away.
    await stage.open(realtime=PATIENT)
    closed = stage.add(SlowClient, "slow, disconnect", stage.node.port, ["load.slow"])
    dropped = stage.add(SlowClient, "slow, drop_oldest", stage.node.port, ["oldest.slow"])
    heavy = Publisher(stage.node.api_port, KEY, ["load.slow", "oldest.slow"], 0, size=32_000)
    stage.others.append(heavy)
    await stage.begin()
    closed.look_away()
    dropped.look_away()
    heavy.start()

    async def slow_drops():
        while True:
            ledger = await stage.node.ledger()
            status, list_of_slow = await stage.node.ask("GET", "/connections?slow=true")
            if ledger.dropped["slow"] > 50 and list_of_slow["total"] >= 1:
                return list_of_slow
            await asyncio.sleep(0.1)
    slow = await asyncio.wait_for(slow_drops(), 30)
    stage.note(f"GET /connections?slow=true named {slow['total']}")
    await stage.run_for(0.3)
    closed.look_back()
    dropped.look_back()
    await asyncio.wait_for(heavy.finish(), 20)
    await stage.until("the closed one is back", lambda: closed.is_following)
    stage.publisher.take_in(heavy)
    ledger = await stage.settle()
    stage.expect(any("4001" in it or "Incomplete" in it for it in closed.ends), f"the slow one was closed: {closed.ends}")
    stage.expect(closed.view.heard["load.slow"].count(None) == 0, "the one that was closed has all of it")
    stage.expect(dropped.view.heard["oldest.slow"].count(None) > 0, "the one that lost its oldest was told")
    others = [it for it in stage.everybody() if not isinstance(it, SlowClient)]
    stage.expect(all(it.losses == 0 for it in others), "nobody else was closed")
    stage.expect(ledger.dropped["slow"] > 0, "the ledger says who was slow")


@scenario
async def black_hole(stage):
    """The network of a third of the clients is cut: no byte, no FIN, no word"""
    await stage.open()
    relay = Relay(stage.node.port)
    await relay.start()
    far = []
    for kind in (WebSocketClient, EventStreamClient, PollClient):
        far += [stage.add(kind, f"far {kind.transport} {at}", relay.port, ["load.0", "load.1"]) for at in range(2)]
    try:
        await stage.begin()
        await stage.run_for(0.3)
        cut = relay.cut()
        await stage.run_for(0.7)
        await stage.until("those that were cut off are back", lambda: all(it.losses and it.is_following for it in far))
        await stage.settle()
        stage.expect(cut >= len(far), f"{cut} connections were cut")
        sockets = len(stage.of("websocket")) + len(stage.talkers)

        async def no_ghosts():
            while (await stage.node.ask("GET", "/connections?transport=websocket"))[1]["total"] > sockets:
                await asyncio.sleep(0.1)
        await asyncio.wait_for(no_ghosts(), 10)
        stage.note(f"{cut} connections cut; the dead WebSockets were found out by their heartbeat")
    finally:
        relay.close()


@scenario
async def backend_killed(stage):
    """kill -9 of the backend, and its restart"""
    await stage.open()
    await stage.begin()
    for _ in range(2):
        await stage.run_for(0.2)
        stage.backend.kill()
        await stage.run_for(0.3)
        await stage.backend.start()
    await untouched_by_the_backend(stage)


@scenario
async def backend_stopped(stage):
    """SIGSTOP of the backend: it takes connections and says nothing"""
    await stage.open()
    await stage.begin()
    await stage.run_for(0.2)
    stage.backend.signal(signal.SIGSTOP)
    await stage.run_for(0.6)
    stage.backend.signal(signal.SIGCONT)
    await untouched_by_the_backend(stage)


def misbehaving(name, mode, what):
    async def run(stage):
        await stage.open()
        await stage.begin()
        await stage.run_for(0.2)
        await stage.backend.behave(mode)
        await stage.run_for(0.6)
        await stage.backend.behave("ok")
        await untouched_by_the_backend(stage)
    run.__name__, run.__doc__ = name, what
    scenario(run)


misbehaving("backend_500", "500", "The backend answers everything with 500")
misbehaving("backend_503", "503", "The backend answers everything with 503")
misbehaving("backend_garbage", "garbage", "The backend answers with bytes that are no HTTP")
misbehaving("backend_headers", "headers", "The backend answers with a header that has no end")
misbehaving("backend_nothing", "nothing", "The backend takes requests and never answers")


async def untouched_by_the_backend(stage):
    """Real-time goes on whatever the backend does; what clients say waits for it, and is said once."""
    await stage.settle()
    stage.expect(all(it.losses == 0 for it in stage.clients), "no connection was closed")
    stage.expect(stage.publisher.refused == stage.publisher.unknown == 0, "every push was taken at once")
    stage.expect(stage.verdict.told == 0, "nobody was told of a gap")
    stage.expect(sum(it.acknowledged for it in stage.talkers) > 0, "clients could publish")
    stage.expect(stage.visitor.answers.get(200, 0) > 0, "the site was served before and after")


@scenario
async def reload(stage):
    """A reload every 100 ms, every other file bad"""
    await stage.open()
    await stage.begin()
    taken = refused = 0
    end = time.monotonic() + stage.seconds
    while time.monotonic() < end:
        good = (taken + refused) % 2 == 0
        # A changed rule, so that every connection looks through its subscriptions again.
        stage.node.config["channels"][2]["history"] = {"size": 20000 + taken, "ttl": "10m"}
        stage.node.write(None if good else "channels: [ { match: 'a.**.b', subscribe: nonsense } ]\n")
        status, _ = await stage.node.ask("POST", "/reload")
        taken, refused = taken + (status == 200), refused + (status == 422)
        await asyncio.sleep(0.1)
    stage.node.write()
    await stage.settle()
    stage.note(f"{taken} files taken, {refused} refused")
    stage.expect(taken > 3 and refused > 3, "files were taken and refused")
    stage.expect(all(it.losses == 0 for it in stage.everybody()), "no connection was closed")
    stage.expect(stage.verdict.told == 0, "nobody was told of a gap")
    stage.expect(stage.publisher.refused == stage.publisher.unknown == 0, "every push was taken at once")
    stage.expect(set(stage.visitor.answers) == {200}, "every page was served")


@scenario
async def restart_term(stage):
    """The node is restarted with SIGTERM, over and over"""
    await restart(stage, with_kill=False)


@scenario
async def restart_kill(stage):
    """The node is restarted with kill -9, over and over"""
    await restart(stage, with_kill=True)


@scenario
async def restart_term_kept(stage):
    """The node keeps its data, and is restarted with SIGTERM, over and over"""
    await restart(stage, with_kill=False, data=stage.keeping("1s"))
    stage.expect(stage.verdict.told == 0, "nobody missed anything: the drain wrote all of it")


@scenario
async def restart_kill_kept(stage):
    """The node keeps its data, flushed each second, and is restarted with kill -9, over and over"""
    await restart(stage, with_kill=True, data=stage.keeping("1s"))
    stage.expect(stage.verdict.told == 0, "nobody missed anything: the end of the process alone loses nothing")


@scenario
async def restart_kill_fsynced(stage):
    """The node keeps its data, flushed before each receipt, and is restarted with kill -9, over and over"""
    await restart(stage, with_kill=True, data=stage.keeping("always"))
    stage.expect(set(stage.publisher.durable) == {"fsync"}, f"receipts promise: {stage.publisher.durable}")
    stage.expect(stage.verdict.told == 0, "nobody missed anything: every receipt was on the disk")


async def restart(stage, with_kill, **changes):
    await stage.open(**changes)
    await stage.begin()
    rounds = max(2, round(stage.seconds / 1.5))
    for _ in range(rounds):
        await stage.run_for(0.8 / rounds)
        if with_kill:
            stage.node.kill()
        else:
            code = await stage.node.terminate()
            stage.expect(code == 0, f"the drain ended with {code}")
        await stage.node.start()
    await stage.until("everybody is back", lambda: all(it.is_following for it in stage.everybody()))
    await stage.run_for(0.2)
    await stage.settle()
    stage.note(f"{rounds} restarts; every client came back {min(it.losses for it in stage.clients)} times or more")
    stage.expect(all(it.losses >= 1 for it in stage.of("websocket")), "every WebSocket was closed and came back")


@scenario
async def drain(stage):
    """POST /drain under load: nobody is cut off without a word, and the process ends by itself"""
    await stage.open()
    await stage.begin()
    await stage.run_for(0.5)
    before = {it: len(it.ends) for it in stage.everybody()}
    begun = time.monotonic()
    status, _ = await stage.node.ask("POST", "/drain")
    code = await stage.node.ended(15)
    took = time.monotonic() - begun
    told = [end for it in stage.of("websocket") for end in it.ends[before[it]:][:1]]
    streams = [end for it in stage.of("sse") for end in it.ends[before[it]:][:1]]
    await stage.node.start()
    await stage.until("everybody is back", lambda: all(it.is_following for it in stage.everybody()))
    await stage.run_for(0.2)
    await stage.settle()
    stage.note(f"drained in {took:.1f} s; WebSockets ended with {sorted(set(told))}, streams with {sorted(set(streams))}")
    stage.expect((status, code) == (202, 0), f"the drain was answered {status} and ended with {code}")
    stage.expect(all(it in ("reconnect", "closed with 4003") for it in told), "WebSockets were told to come back")
    stage.expect(all(it in ("reconnect", "closed 4003") for it in streams), "streams were told to come back")
