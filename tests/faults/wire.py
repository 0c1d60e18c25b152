"""HTTP and WebSocket over asyncio streams, as little of them as clients need that are to be killed, cut off and starved."""

import asyncio
import base64
import os
import socket
import struct
import time


class Gone(Exception):
    """The other end closed, broke off, or was silent for too long."""


async def end(task):
    """Asks again: `wait_for` forgets that it was cancelled when what it waits for is done in the same moment."""
    while task and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


async def connect(port, receive_buffer=None):
    """A stream to a port of this machine. A small receive buffer makes a reader's slowness felt early."""
    raw = socket.socket()
    raw.setblocking(False)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", port)), 5)
        return await asyncio.open_connection(sock=raw, limit=1 << 24)
    except (OSError, asyncio.TimeoutError) as error:
        raw.close()
        raise Gone(f"cannot connect: {error or 'no answer'}") from None


def head(method, path, headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def read_head(reader):
    """Status and headers of an answer."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
        raise Gone(f"no answer: {type(error).__name__}") from None
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in headers.items()}


class Http:
    """One keep-alive connection; a new one after whatever went wrong."""

    def __init__(self, port):
        self.port = port
        self.stream = None

    async def ask(self, method, path, body=b"", headers=None, timeout=10):
        """Status and body. `Gone` says that nobody knows whether it was done."""
        try:
            return await asyncio.wait_for(self._ask(method, path, body, headers or {}), timeout)
        except asyncio.TimeoutError:
            self.close()
            raise Gone("no answer in time") from None
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            raise Gone(type(error).__name__) from None
        except BaseException:
            self.close()
            raise

    async def _ask(self, method, path, body, headers):
        if self.stream is None:
            self.stream = await connect(self.port)
        reader, writer = self.stream
        writer.write(head(method, path, {"Content-Length": len(body), **headers}) + body)
        status, answer = await read_head(reader)
        if "content-length" in answer:
            body = await reader.readexactly(int(answer["content-length"]))
        elif answer.get("transfer-encoding") == "chunked":
            body = await self._chunks(reader)
        else:
            body = b"" if status in (204, 304) else await reader.read()
        if answer.get("connection") == "close":
            self.close()
        return status, body

    @staticmethod
    async def _chunks(reader):
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return body

    def close(self):
        if self.stream:
            self.stream[1].transport.abort()
        self.stream = None


class WebSocket:
    """Text frames, pongs and the close code."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.heard_at = time.monotonic()

    @classmethod
    async def open(cls, port, path, receive_buffer=None):
        reader, writer = await connect(port, receive_buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(head("GET", path, {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
                                        "Sec-WebSocket-Version": "13"}))
        status, _ = await read_head(reader)
        if status != 101:
            writer.transport.abort()
            raise Gone(f"answered {status}")
        return cls(reader, writer)

    async def receive(self):
        """The next text; `Gone` with the code at the end."""
        try:
            while True:
                opcode, payload = await self._frame()
                self.heard_at = time.monotonic()
                if opcode == 1:
                    return payload
                if opcode == 9:
                    self._send(10, payload)
                if opcode == 8:
                    raise Gone(f"closed with {struct.unpack('>H', payload[:2])[0] if len(payload) > 1 else 1005}")
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Gone(type(error).__name__) from None

    async def _frame(self):
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size == 126:
            size, = struct.unpack(">H", await self.reader.readexactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(size)

    def send(self, text):
        self._send(1, text.encode())

    def _send(self, opcode, payload):
        size = len(payload)
        length = bytes([128 | size]) if size < 126 else bytes([128 | 126]) + struct.pack(">H", size)
        # The mask is zero, which is a mask.
        self.writer.write(bytes([128 | opcode]) + length + bytes(4) + payload)

    def close(self):
        self.writer.transport.abort()
