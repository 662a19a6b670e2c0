"""One MLflow run for one thing, however many look for it at once and whatever answers are lost.

MLflow creates a run whenever it is asked, and has no name that only one can have. So whoever makes a run draws a ticket for it
afterwards, one more than the highest that is out, and the lowest ticket wins; nobody decides while another has not drawn yet.
That is Lamport's bakery (L. Lamport, "A New Solution of Dijkstra's Concurrent Programming Problem", CACM 17(8), 1974).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from avskrift.errors import RegistryError, UsageError
from avskrift.logs import Log
from avskrift.registry import tags

# Whoever has not drawn by then was killed, and is drawn for. Far above what two requests take, and nothing that anybody notices.
_DRAWING_SECONDS = 15.0
_POLL_SECONDS = 0.2
_MOST_RUNS = 100  # that were made for one thing at once
_UNSAFE_IN_FILTERS = frozenset("'\"`\\\n\r")

_log = Log("registry.runs")


def find_or_create(client: MlflowClient, experiment: str, identity: Mapping[str, str], name: str) -> str:
    """The id of the run that has all tags of ``identity``; made, with this name, if there is none.

    A run that somebody else tagged so, without a claim, is the one. Those that were made for nothing are deleted.

    Raises:
        MlflowException: MLflow did not answer or refused.
        RegistryError: what was made is not found.
    """
    claim, waited, created = uuid.uuid4().hex, _Waited(), False
    while True:
        runs = _search(client, experiment, identity)
        own = [run for run in runs if _tag(run, tags.CLAIM) == claim]
        drawing = [run for run in runs if _ticket(run) is None]
        if not runs and created:
            raise RegistryError(f"MLflow does not show the run {name} that it has just made; was it deleted meanwhile? Run this step again")
        if not runs:
            client.create_run(experiment, tags={**identity, tags.CLAIM: claim}, run_name=name)
            created = True
        elif own and not any(_ticket(run) is not None for run in own):
            _draw(client, min(own, key=_id), runs)
        elif late := [run for run in drawing if run not in own and waited.enough(_id(run))]:
            _draw(client, late[0], runs)
        elif [run for run in drawing if run not in own]:
            time.sleep(_POLL_SECONDS)
        else:
            winner = min((run for run in runs if _ticket(run) is not None), key=lambda run: (_ticket(run), _id(run)))
            for run in own:
                if run is not winner:
                    client.delete_run(_id(run))
            if created and winner in own:
                _log.info("run.created", run_id=_id(winner))
            return _id(winner)


def set_tag(client: MlflowClient, run_id: str, name: str, value: str) -> None:
    """Tag a run. Where another sets the same tag for the first time in the same moment, theirs may stand.

    MLflow looks whether there is such a tag and then writes it; on PostgreSQL the second of two that do so is refused.

    Raises:
        MlflowException: MLflow did not answer or refused.
    """
    try:
        client.set_tag(run_id, name, value)
    except MlflowException:
        if name not in client.get_run(run_id).data.tags:
            raise


def searchable(value: str, what: str) -> str:
    """MLflow's filter language cannot escape quotes, so a value that holds one cannot be looked up.

    Raises:
        UsageError: ``value`` holds one, or is empty.
    """
    if not value:
        raise UsageError(f"the {what} is empty; give it a name, or leave the option out")
    if _UNSAFE_IN_FILTERS.intersection(value):
        raise UsageError(f"the {what} {value!r} holds a quote, a backslash or a line break, by which MLflow looks nothing up; leave it out")
    return value


class _Waited:
    """For how long each run has been seen without a ticket."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def enough(self, run_id: str) -> bool:
        now = time.monotonic()
        return now - self._since.setdefault(run_id, now) > _DRAWING_SECONDS


def _search(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> list[Any]:
    wanted = " and ".join(f"tags.`{name}` = '{searchable(value, name)}'" for name, value in identity.items())
    return list(client.search_runs([experiment], wanted, ViewType.ACTIVE_ONLY, max_results=_MOST_RUNS))


def _draw(client: MlflowClient, run: Any, runs: list[Any]) -> None:
    highest = max((ticket for one in runs if (ticket := _ticket(one)) is not None), default=0)
    set_tag(client, _id(run), tags.TICKET, str(highest + 1))


def _ticket(run: Any) -> int | None:
    """None while it is being drawn; 0 for a run that nobody had to claim."""
    if not _tag(run, tags.CLAIM):
        return 0
    drawn = _tag(run, tags.TICKET)
    return int(drawn) if drawn.isdigit() else None


def _tag(run: Any, name: str) -> str:
    return str(run.data.tags.get(name, ""))


def _id(run: Any) -> str:
    return str(run.info.run_id)
