"""The line between the two processes: one question, one answer."""

import os
import select
import socket
from typing import Any

from autograder.judge.values import HEAD, MOST_RAW, MOST_TREE, Reader, Writer
from autograder.wire import ClosedError, ProtocolError

PIECE = 1 << 18  # bytes


class Link:
    """A socket on which whole messages go to and fro.

    An interrupt may leave half of a message unread: what came stays here, and the next reading
    goes on with it.
    """

    def __init__(self, connection: socket.socket, piece: int = PIECE):
        self.connection = connection
        self.pid = os.getpid()
        self._bytes = bytearray()
        self._piece = memoryview(bytearray(piece))

    def send(self, message: Any, writer: Writer) -> None:
        """Send a message.

        Raises: PlainDataError, ProtocolError; ClosedError where nobody is there.
        """
        pieces = writer.pack(message)
        if os.getpid() != self.pid:
            raise ClosedError("a forked process has no line to the other side")
        try:
            for piece in pieces:
                self.connection.sendall(piece)
        except OSError as error:
            raise ClosedError("the other process ended") from error

    def receive(self, reader: Reader) -> Any:
        """Wait for the next message.

        Raises: ClosedError where there is none to come, ProtocolError where it is no message.
        """
        self._fill(HEAD.size)
        length, size = HEAD.unpack_from(self._bytes)
        if length > MOST_TREE or size > MOST_RAW:
            raise ProtocolError(f"expected a message of at most {MOST_RAW} bytes, got {size}")
        end = HEAD.size + length + size
        self._fill(end)
        whole, self._bytes = self._bytes, self._bytes[end:]
        text = bytes(whole[HEAD.size : HEAD.size + length])
        return reader.unpack(text, memoryview(whole)[HEAD.size + length : end])

    def is_empty(self) -> bool:
        """Say whether nothing has come that is not read."""
        return not self._bytes and not select.select([self.connection], [], [], 0)[0]

    def _fill(self, length: int) -> None:
        """Wait until so many bytes have come."""
        while len(self._bytes) < length:
            try:
                came = self.connection.recv_into(self._piece)
            except ConnectionError as error:
                raise ClosedError("the other process ended") from error
            if not came:
                raise ClosedError("the other process ended")
            self._bytes += self._piece[:came]
