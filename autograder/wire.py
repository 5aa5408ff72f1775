"""Messages between processes: JSON behind its length, so reading one runs nothing."""

import json
import math
import socket
import struct

from autograder.errors import GradingError

LENGTH = struct.Struct(">I")
LARGEST = 128 << 20  # bytes of one message
DEEPEST = 50  # lists and objects within each other


class ProtocolError(GradingError):
    """The other side sent what is no message."""


class ClosedError(GradingError):
    """The other side is gone."""


def pack(message: dict) -> bytes:
    """Write a message.

    Raises: ProtocolError where it is longer than LARGEST.
    """
    body = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    if len(body) > LARGEST:
        raise ProtocolError(f"expected at most {LARGEST} bytes in a message, got {len(body)}")
    return LENGTH.pack(len(body)) + body


class Inbox:
    """Takes bytes as they come and gives whole messages. It trusts nothing that it reads."""

    def __init__(self, largest: int = LARGEST):
        self.largest = largest
        self.length = 0  # bytes of the message that `next` gave last
        self._bytes = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._bytes += chunk

    def next(self) -> dict | None:
        """Give the next message, or None where it has not come whole.

        Raises: ProtocolError where it is too long, or no JSON object of plain data.
        """
        if len(self._bytes) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._bytes)
        if length > self.largest:
            raise ProtocolError(f"expected at most {self.largest} bytes in a message, got {length}")
        end = LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[LENGTH.size : end])
        del self._bytes[:end]
        self.length = length
        try:
            message = _plain(json.loads(body.decode("utf-8")), DEEPEST)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(f"expected JSON, got {error}") from error
        if not isinstance(message, dict):
            raise ProtocolError(f"expected an object, got {type(message).__name__}")
        return message

    def take(self, connection: socket.socket, length: int) -> bytes:
        """Wait for raw bytes that a message announced.

        Raises: ClosedError where they do not come.
        """
        while len(self._bytes) < length:
            self.feed(chunk(connection))
        taken = bytes(self._bytes[:length])
        del self._bytes[:length]
        return taken


def receive(connection: socket.socket, inbox: Inbox) -> dict:
    """Wait for the next message.

    Raises: ClosedError where there is none to come, ProtocolError where it is no message.
    """
    while (message := inbox.next()) is None:
        inbox.feed(chunk(connection))
    return message


def chunk(connection: socket.socket) -> bytes:
    """Wait for some bytes.

    Raises: ClosedError where there are none to come.
    """
    read = connection.recv(1 << 16)
    if not read:
        raise ClosedError("the other process ended")
    return read


def _plain(value: object, depth: int) -> object:
    """Copy JSON, without characters and numbers that no file can hold.

    Raises: ValueError where it is deeper than DEEPEST.
    """
    if depth == 0:
        raise ValueError(f"objects within {DEEPEST} others")
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {_plain(key, depth): _plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no name for it, and a browser reads no notebook that does
    if isinstance(value, list):
        return [_plain(item, depth - 1) for item in value]
    return value
