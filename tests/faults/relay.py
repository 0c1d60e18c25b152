"""A piece of network between a client and the node that can be cut: bytes stop, and nobody is told."""

import asyncio


class Relay:
    def __init__(self, to_port):
        self.to_port = to_port
        self.port = None
        self.links = []
        self.server = None

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            return writer.transport.abort()
        link = Link([writer, far_writer])
        self.links.append(link)
        await asyncio.gather(link.carry(reader, far_writer), link.carry(far_reader, writer))

    def cut(self):
        """What is connected now hears nothing any more, in neither direction. New connections are carried."""
        count = 0
        for link in self.links:
            if not link.is_cut and not link.is_over:
                link.is_cut = True
                count += 1
        return count

    def close(self):
        if self.server:
            self.server.close()
        for link in self.links:
            link.abort()


class Link:
    def __init__(self, writers):
        self.writers = writers
        self.is_cut = self.is_over = False

    async def carry(self, reader, writer):
        try:
            while data := await reader.read(65536):
                if self.is_cut:
                    # A dead network does not say that it is dead: the sockets stay open, and are not read.
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        if not self.is_cut:
            self.is_over = True
            self.abort()

    def abort(self):
        for writer in self.writers:
            writer.transport.abort()
