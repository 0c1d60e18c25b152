"""The application behind the node: a program of its own, so that it can be killed and stopped like one.

    backend.py PORT CONTROL_PORT

Answers pages with 200 and webhooks with 204, until a line on the control port says how else to behave.
"""

import asyncio
import sys

MODES = ("ok", "500", "503", "garbage", "headers", "nothing")
mode = "ok"


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next((int(it.split(":")[1]) for it in lines if it.startswith("content-length:")), 0)
            await reader.readexactly(length)
            await answer(writer, is_webhook=b" /hooks " in head)
            await writer.drain()
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.transport.abort()


async def answer(writer, is_webhook):
    if mode == "ok":
        page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" if is_webhook else page)
    elif mode == "garbage":
        writer.write(bytes(range(256)) * 8)
        raise ConnectionError("garbage is the last word")
    elif mode == "headers":
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x-and-another: one\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0.01)
    elif mode == "nothing":
        await asyncio.sleep(3600)
    else:
        writer.write(f"HTTP/1.1 {mode} Broken\r\nContent-Length: 0\r\n\r\n".encode())


async def control(reader, writer):
    global mode
    while line := (await reader.readline()).decode().strip():
        assert line in MODES, line
        mode = line
        writer.write(b"done\n")
    writer.close()


async def main(port, control_port):
    servers = [await asyncio.start_server(serve, "127.0.0.1", port),
               await asyncio.start_server(control, "127.0.0.1", control_port)]
    await asyncio.gather(*(it.serve_forever() for it in servers))


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
