"""One HTTP connection to one address, with a deadline for all of it: no server can hold its caller by dribbling."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from typing import cast


class Deadline:
    """A moment from which on everything is a TimeoutError."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        return left


class Connection:
    """What is sent and read over a socket, all before one deadline."""

    def __init__(self, line: socket.socket, deadline: Deadline) -> None:
        self._line, self._deadline = line, deadline

    def send(self, request: bytes) -> None:
        """Sends a whole request."""
        self._line.settimeout(self._deadline.left())
        self._line.sendall(request)

    def answer(self) -> HTTPResponse:
        """The answer, its headers read. What is read from it later keeps the deadline too."""
        answer = HTTPResponse(cast(socket.socket, self))
        answer.begin()
        return answer

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """What HTTPResponse reads from: a file instead of the socket."""
        return io.BufferedReader(_Reader(self._line, self._deadline))


class _Reader(io.RawIOBase):
    def __init__(self, line: socket.socket, deadline: Deadline) -> None:
        self._line, self._deadline = line, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        self._line.settimeout(self._deadline.left())
        return self._line.recv_into(cast(bytearray, buffer))


@contextmanager
def connect(
    dial: Callable[[str, int, float], socket.socket],
    numbers: Sequence[str],
    port: int,
    scheme: str,
    host: str,
    deadline: Deadline,
) -> Iterator[Connection]:
    """A connection to the first of the addresses that takes one; for https, TLS with a certificate for `host`.

    Raises OSError (TimeoutError among them, and ssl.SSLError).
    """
    with ExitStack() as opened:
        line = opened.enter_context(_first(dial, numbers, port, deadline))
        if scheme == "https":
            line.settimeout(deadline.left())
            line = opened.enter_context(ssl.create_default_context().wrap_socket(line, server_hostname=host))
        yield Connection(line, deadline)


def _first(
    dial: Callable[[str, int, float], socket.socket], numbers: Sequence[str], port: int, deadline: Deadline
) -> socket.socket:
    """A machine without IPv6 must get on to the IPv4 address, so no address but the last may use up all the time."""
    for index, number in enumerate(numbers[:-1]):
        try:
            return dial(number, port, deadline.left() / (len(numbers) - index))
        except OSError:
            continue
    return dial(numbers[-1], port, deadline.left())
