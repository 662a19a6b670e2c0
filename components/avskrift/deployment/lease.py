"""A Kubernetes Lease as a lock: one holder at a time, wherever in the cluster or outside it the others are.

The holder renews it in the background; who dies without a word loses it when its time is over.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from avskrift.deployment.cluster import Cluster, Resource
from avskrift.errors import ClusterError, ConflictError
from avskrift.logs import Log

DURATION_SECONDS = 30
_RENEWALS = 3  # in the time that a lease lasts
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9-]+")
_LONGEST_NAME = 200  # Kubernetes takes 253
_log = Log("lease")


class Held:
    """A lease that this process holds; :meth:`check` says whether it still does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost = ""  # why it is lost

    def check(self) -> None:
        """Return if the lease is held.

        Raises:
            ConflictError: it was lost: somebody else may be at work.
        """
        if self.lost:
            raise ConflictError(f"the lock {self.name} was lost ({self.lost}); see what the other one did, then try again")


class LeaseLock:
    """Makes locks by name in a cluster's namespace; an :class:`avskrift.registry.promotion.PromotionLock`.

    ``duration_s`` is how long a lease outlives a holder that died, in whole seconds.
    """

    def __init__(self, cluster: Cluster, *, duration_s: int = DURATION_SECONDS, prefix: str = "avskrift") -> None:
        self._cluster, self._duration_s, self._prefix = cluster, duration_s, prefix
        self._us = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Hold the lock ``name``; as :meth:`hold`."""
        with self.hold(name):
            yield

    @contextmanager
    def hold(self, name: str) -> Iterator[Held]:
        """Take the lock ``name`` at once or not at all, renew it, and give it back at the end.

        Raises:
            ConflictError: somebody else holds it, or was faster.
            ClusterError: the API did not answer or refused.
        """
        lease, held, done = self._take(name), Held(name), threading.Event()
        renewal = threading.Thread(target=self._renew, args=(lease, held, done), daemon=True, name=f"lease-{name}")
        renewal.start()
        try:
            yield held
        finally:
            done.set()
            renewal.join()
            if not held.lost:
                self._give_back(lease)

    def _take(self, name: str) -> Resource:
        path = self._path(name)
        found = self._cluster.get(path)
        if found is not None:
            self._refuse_if_held(name, found)
        try:
            if found is None:
                return self._cluster.create(self._folder(), self._lease(name))
            return self._cluster.replace(path, self._lease(name, found))
        except ConflictError as error:
            # A write whose answer was lost is repeated, and the repetition meets what the first one wrote.
            now = self._cluster.get(path)
            if now is not None and (now.get("spec") or {}).get("holderIdentity") == self._us:
                return now
            raise ConflictError(f"somebody else took the lock {name} at the same moment; try again once they are done") from error

    def _refuse_if_held(self, name: str, lease: Resource) -> None:
        holder = (lease.get("spec") or {}).get("holderIdentity")
        if not holder or holder == self._us:
            return
        if _ends(lease) < datetime.now(UTC):
            # Our clock may be ahead of the holder's: one that lives renews it in the meantime.
            time.sleep(1.5 * self._duration_s / _RENEWALS)
            again = self._cluster.get(self._path(name)) or lease
            if again["metadata"].get("resourceVersion") == lease["metadata"].get("resourceVersion"):
                _log.warning("lease.taken_over", lease=name, holder=holder)
                return
        raise ConflictError(f"{holder} holds the lock {name}, until {_ends(lease):%H:%M:%S} UTC or longer; wait for it, then try again")

    def _renew(self, lease: Resource, held: Held, done: threading.Event) -> None:
        """Until ``done``; ``lease`` is kept up to date, since the next write must name the version that it replaces."""
        while not done.wait(self._duration_s / _RENEWALS):
            try:
                lease.update(self._cluster.replace(self._path(held.name), self._lease(held.name, lease)))
            except ConflictError:
                held.lost = self._after_conflict(lease, held)
            except ClusterError as error:
                held.lost = str(error) if _ends(lease) < datetime.now(UTC) else ""
            if held.lost:
                _log.warning("lease.lost", lease=held.name, reason=held.lost)
                return

    def _after_conflict(self, lease: Resource, held: Held) -> str:
        """An answer that was lost on its way makes our own renewal look like somebody else's."""
        try:
            now = self._cluster.get(self._path(held.name))
        except ClusterError as error:
            return str(error)
        if now is None:
            return "somebody deleted it"
        if now["spec"].get("holderIdentity") != self._us:
            return f"{now['spec'].get('holderIdentity') or 'somebody'} took it"
        lease.update(now)
        return ""

    def _give_back(self, lease: Resource) -> None:
        """What is not given back ends by itself."""
        name = lease["metadata"]["name"]
        released = {**lease, "spec": {**lease["spec"], "holderIdentity": ""}}
        try:
            self._cluster.replace(f"{self._folder()}/{name}", released)
        except (ConflictError, ClusterError) as error:
            _log.warning("lease.not_given_back", lease=name, reason=str(error), seconds=self._duration_s)

    def _lease(self, name: str, earlier: Resource | None = None) -> Resource:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
        spec: dict[str, Any] = dict((earlier or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._us:
            transitions = int(spec.get("leaseTransitions") or 0) + 1 if earlier else 0
            spec |= {"holderIdentity": self._us, "acquireTime": now, "leaseTransitions": transitions}
        spec |= {"leaseDurationSeconds": self._duration_s, "renewTime": now}
        metadata = {"name": self._lease_name(name), "namespace": self._cluster.namespace}
        if earlier:
            metadata["resourceVersion"] = earlier["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _lease_name(self, name: str) -> str:
        """A name that Kubernetes takes; two names never become one."""
        plain = _NOT_IN_A_NAME.sub("-", name.lower()).strip("-")[:_LONGEST_NAME]
        suffix = "" if plain == name else f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        return f"{self._prefix}-{plain}{suffix}"

    def _folder(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._cluster.namespace}/leases"

    def _path(self, name: str) -> str:
        return f"{self._folder()}/{self._lease_name(name)}"


def _ends(lease: Resource) -> datetime:
    """When it is free without being given back; at once where it never says."""
    spec = lease.get("spec") or {}
    try:
        renewed = datetime.fromisoformat(spec["renewTime"])
        return renewed + timedelta(seconds=int(spec["leaseDurationSeconds"]))
    except (KeyError, TypeError, ValueError):
        return datetime.fromtimestamp(0, UTC)
