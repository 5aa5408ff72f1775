"""The line between the two processes: one question, one answer."""

import os
import socket
from typing import Any

from autograder.judge.values import HEAD, MOST_RAW, MOST_TREE, Reader, Writer
from autograder.wire import ClosedError, ProtocolError

PIECE = 1 << 20


class Link:
    """A socket on which whole messages go to and fro.

    An interrupt may leave half of a message unread: what came stays here, and the next reading
    goes on with it.
    """

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.pid = os.getpid()
        self._bytes = bytearray()

    def send(self, message: Any, writer: Writer) -> None:
        """Send a message.

        Raises: PlainDataError, ProtocolError; ClosedError where nobody is there.
        """
        packed = writer.pack(message)
        if os.getpid() != self.pid:
            raise ClosedError("a forked process has no line to the other side")
        try:
            self.connection.sendall(packed)
        except OSError as error:
            raise ClosedError("the other process ended") from error

    def receive(self, reader: Reader) -> Any:
        """Wait for the next message.

        Raises: ClosedError where there is none to come, ProtocolError where it is no message.
        """
        length, size = HEAD.unpack(self._await(0, HEAD.size))
        if length > MOST_TREE or size > MOST_RAW:
            raise ProtocolError(f"expected a message of at most {MOST_RAW} bytes, got {size}")
        whole = self._await(HEAD.size, length + size)
        del self._bytes[: HEAD.size + length + size]
        return reader.unpack(whole[:length], whole[length:])

    def _await(self, start: int, length: int) -> bytes:
        while len(self._bytes) < start + length:
            try:
                piece = self.connection.recv(PIECE)
            except ConnectionError as error:
                raise ClosedError("the other process ended") from error
            if not piece:
                raise ClosedError("the other process ended")
            self._bytes += piece
        return bytes(self._bytes[start : start + length])
