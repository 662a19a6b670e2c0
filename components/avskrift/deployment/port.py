"""Who listens on a port of this machine."""

from __future__ import annotations

import socket

import psutil

from avskrift.errors import PortTakenError, UsageError


def check(host: str, port: int, *, ours: psutil.Process | None) -> None:
    """Return if ``port`` is free, or held by the process ``ours`` or one of its children.

    Raises:
        PortTakenError: somebody else listens there.
        UsageError: a number that is no port, or one that only root may use.
    """
    if not 1 <= port <= 65535:
        raise UsageError(f"port {port} cannot be listened on; use a number from 1 to 65535")
    if _is_free(host, port) or (ours and _listens(ours, port)):
        return
    raise PortTakenError(f"port {port} is taken by {_holder(port)}; stop it or choose another with --port")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger after a close hold no port
        try:
            candidate.bind((host, port))
            candidate.listen(1)
        except PermissionError as error:
            raise UsageError(f"port {port} may only be listened on by root; use one above 1023") from error
        except OSError:
            return False
    return True


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        family = [process, *process.children(recursive=True)]
        sockets = [entry for member in family for entry in member.connections("tcp")]
    except psutil.Error:
        return False
    return any(entry.status == psutil.CONN_LISTEN and _port(entry.laddr) == port for entry in sockets)


def _holder(port: int) -> str:
    """The holder's name and number, where the system tells."""
    try:
        for entry in psutil.net_connections("tcp"):
            if entry.status == psutil.CONN_LISTEN and _port(entry.laddr) == port and entry.pid:
                return f"{psutil.Process(entry.pid).name()} (process {entry.pid})"
    except psutil.Error:
        pass
    return "another program"


def _port(address: object) -> int | None:
    return getattr(address, "port", None)  # a socket that is bound to nothing has none
