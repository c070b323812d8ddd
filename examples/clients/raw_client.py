"""A WebSocket client on a plain socket: the check decides when it reads, and how fast.

The protocol itself is that of python websockets, without its connection and its keep-alive.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from sequence import Sequence


class RawClient:
    def __init__(self, stream: socket.socket, protocol: ClientProtocol, size: int) -> None:
        self._socket = stream
        self._protocol = protocol
        self._message = b""
        self.sequence = Sequence(size)
        self.bytes = 0
        self.pongs = 0
        self.close_code: int | None = None

    def __str__(self) -> str:
        close = "no close frame" if self.close_code is None else f"close {self.close_code}"
        return f"{self.sequence} in {self.bytes} bytes, {self.pongs} pongs, {close}"

    async def ping(self) -> None:
        self._protocol.send_ping(b"ping")
        await self._flush()

    async def text(self) -> None:
        self._protocol.send_text(b"text")
        await self._flush()

    async def close(self) -> None:
        self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        await self._flush()

    async def heartbeat(self, send: "Send", interval: float) -> None:
        """Sends every `interval` seconds until the server closes."""
        while True:
            await asyncio.sleep(interval)
            if self._protocol.state is not State.OPEN:
                return
            await send(self)

    async def read_head(self) -> None:
        """Reads the answer to the handshake and not a byte more."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = await self._receive(1)
            assert byte, f"the connection ended after {head}"
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), f"{head.splitlines()[0]}"
        self._protocol.receive_data(head)
        [response] = self._protocol.events_received()
        assert self._protocol.handshake_exc is None, f"{self._protocol.handshake_exc}: {response}"

    async def read(self, seconds: float, rate: float = float("inf")) -> bool:
        """Reads with `rate` bytes/s for some seconds, or until the server ends the connection.

        Returns whether the connection has ended.
        """
        begun = due = time.monotonic()
        while due < begun + seconds:
            data = await self._receive(int(min(rate / 4, 64 * 1024)))
            if not data:
                self._protocol.receive_eof()
                self._socket.close()
                return True
            self.bytes += len(data)
            self._protocol.receive_data(data)
            for frame in self._protocol.events_received():
                self._take(frame)
            await self._flush()
            due = max(due, time.monotonic()) + len(data) / rate
            await asyncio.sleep(due - time.monotonic())
        return False

    async def read_to_end(self, rate: float = float("inf")) -> None:
        """Reads with `rate` bytes/s until the server ends the connection."""
        await self.read(float("inf"), rate)

    async def _receive(self, limit: int) -> bytes:
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, limit)
        except ConnectionError as error:
            raise AssertionError(f"{error} after {self}") from error

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            # `read` reports a closed connection, after what has arrived before.
            with suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def _take(self, frame: Frame) -> None:
        match frame.opcode:
            case Opcode.BINARY | Opcode.CONT:
                self._message += frame.data
                if frame.fin:
                    self.sequence.add(self._message)
                    self._message = b""
            case Opcode.PONG:
                self.pongs += 1
            case Opcode.CLOSE:
                self.close_code = self._protocol.close_rcvd.code
                assert not self._message, f"closed in the middle of a message: {self}"


# One of the methods that send something.
Send = Callable[[RawClient], Awaitable[None]]


@asynccontextmanager
async def raw_client(
    port: int, chunks: int, size: int, receive_buffer: int | None = None
) -> AsyncIterator[RawClient]:
    """A client that has requested a stream, and has read nothing but the handshake."""
    uri = parse_uri(f"ws://127.0.0.1:{port}/stream?chunks={chunks}&size={size}")
    protocol = ClientProtocol(uri, max_size=None)
    protocol.send_request(protocol.connect())
    with socket.socket() as stream:
        if receive_buffer is not None:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        stream.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stream, ("127.0.0.1", port))
        client = RawClient(stream, protocol, size)
        await client._flush()
        await client.read_head()
        yield client
