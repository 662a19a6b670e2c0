"""Addresses to listen on, taken before the model is loaded: whoever connects meanwhile is refused, not kept waiting."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from avskrift.errors import PortTakenError, UsageError

_HIGHEST_PORT = 65535
_BACKLOG = 2048


@contextmanager
def bound(host: str, port: int, *, option: str) -> Iterator[socket.socket]:
    """A socket bound to the address but not yet listening; port 0 takes a free one. Errors name ``option`` as what to change.

    Raises:
        PortTakenError: another process listens there.
        UsageError: no address of this machine, or a port that cannot be used.
    """
    if not 0 <= port <= _HIGHEST_PORT:
        raise UsageError(f"port {port} does not exist; choose one from 1 to {_HIGHEST_PORT} with {option}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise UsageError(f"{host!r} is no address of this machine; use --host 127.0.0.1, or 0.0.0.0 for every interface") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the last server's closed connections do not hold the port
        with _naming_the_port(host, port, option):
            listener.bind(address)
        yield listener


def listen(listener: socket.socket, *, option: str) -> None:
    """Two sockets may be bound to one address; only one may listen.

    Raises:
        PortTakenError: another process got there first.
    """
    host, port = listener.getsockname()[:2]
    with _naming_the_port(host, port, option):
        listener.listen(_BACKLOG)


def port_taken(host: str, port: int, *, option: str) -> PortTakenError:
    return PortTakenError(f"port {port} on {host} is taken by another process; choose another with {option}, or stop that one")


@contextmanager
def _naming_the_port(host: str, port: int, option: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise port_taken(host, port, option=option) from error
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} is not for this user to open; choose one above 1023 with {option}") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"{host!r} is no address of this machine; use --host 127.0.0.1, or 0.0.0.0 for every interface") from error
        raise
