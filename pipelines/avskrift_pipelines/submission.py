"""Sends a pipeline to a Kubeflow Pipelines server, starts a run of it, and follows the run to its end.

Each step of it may be repeated. What is there already is used: the pipeline, a version of the same content, the experiment and, where
the run was named, a run of that name. So a command that was cut off can be given again and finds what it had begun.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from avskrift.errors import AccessError, KubeflowError, RunFailedError, UsageError
from avskrift_pipelines.kfp_server import ENDED, SUCCEEDED, ClusterRun, PipelinesServer
from avskrift_pipelines.pipeline_source import PipelineSource
from avskrift_pipelines.run_progress import RunProgress, failures

_OF_ONE_NAME = 20  # runs looked at
_UNSUCCESSFUL = ENDED - {SUCCEEDED}
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 30.0
_OUTAGE_SECONDS = 300.0  # a server that is being upgraded is back before


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that the server has. ``uploaded``: its version was new; ``found``: so it was, and is only followed now."""

    run: ClusterRun
    version: str
    uploaded: bool
    found: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to run, and as what. Without ``run_name`` the run gets a name that no other has."""

    pipeline: PipelineSource
    parameters: Mapping[str, Any]
    experiment: str
    run_name: str = ""
    service_account: str = ""


def submit(server: PipelinesServer, wish: Wish) -> Submitted:
    """Have the run on the server.

    Raises:
        KubeflowError: the server did not answer or refused.
        AccessError: it does not let us.
        UsageError: there is a run of that name already, and it runs something else.
    """
    pipeline_id = _there_or_made(
        lambda: server.pipeline(wish.pipeline.name), lambda: server.create_pipeline(wish.pipeline.name, wish.pipeline.description)
    )[0]
    version = wish.pipeline.version_name
    version_id, uploaded = _there_or_made(
        lambda: server.version(pipeline_id, version), lambda: server.upload_version(pipeline_id, version, wish.pipeline.text)
    )
    experiment_id = _there_or_made(lambda: server.experiment(wish.experiment), lambda: server.create_experiment(wish.experiment))[0]
    wanted = ClusterRun(
        run_id="",
        name=wish.run_name or f"{wish.pipeline.name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}",
        state="",
        experiment_id=experiment_id,
        pipeline_id=pipeline_id,
        version_id=version_id,
        parameters=wish.parameters,
    )
    earlier = _of_that_name(server, wanted, wish) if wish.run_name else None
    if earlier is not None:
        return Submitted(run=earlier, version=version, uploaded=uploaded, found=True)
    return Submitted(run=_started(server, wanted, wish.service_account), version=version, uploaded=uploaded, found=False)


def follow(
    server: PipelinesServer,
    run: ClusterRun,
    progress: RunProgress,
    *,
    seconds_between: float,
    mend: Callable[[], None] = lambda: None,
) -> ClusterRun:
    """Show the run until it has ended; the run as it was then. A server that is away for a while is waited for.

    ``mend`` is called before each question after one that had no answer.

    Raises:
        KubeflowError: the server has been away for minutes. The run goes on all the same.
        AccessError: it does not let us, as when a token has expired.
    """
    wait, away_since = _FIRST_WAIT_SECONDS, 0.0
    while True:
        try:
            if away_since:
                mend()
            run = server.run(run.run_id)
        except AccessError:
            raise
        except KubeflowError as error:
            now = time.monotonic()
            if away_since and now - away_since > _OUTAGE_SECONDS:
                raise
            if not away_since:
                progress.note(f"{error}. The run goes on; asking again")
            away_since = away_since or now
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            continue
        wait, away_since = _FIRST_WAIT_SECONDS, 0.0
        progress.show(run)
        if run.state in ENDED:
            return run
        time.sleep(seconds_between)


def check_success(run: ClusterRun, link: str) -> None:
    """Pass where the run succeeded.

    Raises:
        RunFailedError: it did not; what its steps said is in the message.
    """
    if run.state == SUCCEEDED:
        return
    reasons = failures(run) or ([run.error] if run.error else [])
    said = f" ({'; '.join(reasons)})" if reasons else ""
    raise RunFailedError(f"the run {run.name} ended as {run.state.lower()}{said}; its steps' logs are at {link}")


def _there_or_made(find: Callable[[], str | None], make: Callable[[], str]) -> tuple[str, bool]:
    """An id, and whether it was made now. What was made although the answer got lost, or by someone else meanwhile, is found."""
    found = find()
    if found:
        return found, False
    try:
        return make(), True
    except AccessError:
        raise
    except KubeflowError as error:
        made = _unless_away(find, error)
        if made:
            return made, True
        raise


def _started(server: PipelinesServer, wanted: ClusterRun, service_account: str) -> ClusterRun:
    # The clocks differ: what counts as new is what was not there before.
    before = {run.run_id for run in server.runs(experiment_id=wanted.experiment_id, name=wanted.name, limit=_OF_ONE_NAME)}
    try:
        run = server.create_run(wanted, service_account=service_account)
    except AccessError:
        raise
    except KubeflowError as error:
        now = _unless_away(lambda: server.runs(experiment_id=wanted.experiment_id, name=wanted.name, limit=_OF_ONE_NAME), error) or []
        new = [one for one in now if one.run_id not in before]
        if not new:
            raise
        run = new[0]
    return replace(run, name=wanted.name)


def _of_that_name(server: PipelinesServer, wanted: ClusterRun, wish: Wish) -> ClusterRun | None:
    """The run that an earlier command began under this name; None where there is none, or it came to nothing."""
    named = server.runs(experiment_id=wanted.experiment_id, name=wanted.name, limit=_OF_ONE_NAME)
    for run in named:
        if run.state in _UNSUCCESSFUL:
            continue
        if run.version_id != wanted.version_id or _all_parameters(run, wish) != _all_parameters(wanted, wish):
            raise UsageError(
                f"a run {wanted.name!r} is there already, of another version or with other parameters; choose another --run-name"
            )
        return run
    return None


def _all_parameters(run: ClusterRun, wish: Wish) -> dict[str, Any]:
    return {name: field.default for name, field in wish.pipeline.form.items()} | dict(run.parameters)


def _unless_away(find: Callable[[], Any], first: KubeflowError) -> Any:
    try:
        return find()
    except KubeflowError:
        raise first from None
