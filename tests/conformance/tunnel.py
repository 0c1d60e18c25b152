"""Carries plain TCP connections to a TLS server, because the cases' own client speaks no TLS."""

import asyncio
import ssl
import sys


async def main(listen_port, server_port):
    # The certificate is not what is tested.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def carry(reader, writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", server_port, ssl=context)
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))

    async with await asyncio.start_server(carry, "127.0.0.1", listen_port) as server:
        await server.serve_forever()


async def pump(reader, writer):
    try:
        while chunk := await reader.read(64 * 1024):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass  # A reset is an end as well, and the cases judge it.
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
