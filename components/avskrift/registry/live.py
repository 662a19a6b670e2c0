"""Figures in MLflow while training runs: sent by a thread of their own, and kept in a file until MLflow has them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from avskrift.errors import AvskriftError
from avskrift.logs import Log
from avskrift.registry.protocol import CurvePoint, Registry, RunKey
from avskrift.storage.atomic import atomic_file, make_folder, sweep

# Else its client draws from Python's global generator when it tries again. That one is training's: its state is in the
# checkpoints, and an outage must not change what a run comes to.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
_CLOSE_SECONDS = 10.0

_log = Log("registry.live")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When figures are sent: so many points or seconds after the last batch. In an outage waits double up to the longest."""

    batch_points: int = 500
    batch_seconds: float = 2.0
    first_wait_seconds: float = 2.0
    longest_wait_seconds: float = 60.0


_PACE = Pace()


def open_live(*, tracking_uri: str, pipeline_run_id: str, experiment: str, spool: Path, trial: str = "") -> LiveMetrics | None:
    """Figures of the pipeline run's record, or of its trial's; None where there is no pipeline run, or no MLflow client beside us.

    Nothing is asked of MLflow here: the run is opened, and opened again after a failure, by the thread that sends. An empty
    ``tracking_uri`` means ``MLFLOW_TRACKING_URI``, else the state folder's own.
    """
    if not pipeline_run_id:
        return None
    if importlib.util.find_spec("mlflow") is None:
        _log.warning("live_metrics.off", reason="mlflow is not installed")
        return None

    def connect() -> tuple[Registry, str]:
        from avskrift.registry.mlflow_registry import open_registry  # importing mlflow takes seconds, which training need not wait

        registry = open_registry(tracking_uri)
        return registry, registry.open_run(RunKey(pipeline_run_id=pipeline_run_id, experiment=experiment, child=trial))

    return LiveMetrics(connect, spool)


class LiveMetrics:
    """Sends figures of training steps to a run; each arrives once, however often MLflow was away.

    ``connect`` gives the registry and the run's id; it may raise, and is then called again later. ``spool`` is a JSON Lines
    file that holds every point that MLflow has not confirmed. One that an earlier process left is sent first, so a resumed
    run is given the same. A point that was sent and not confirmed is sent again: :meth:`Registry.log_curves` adds it once.

    Used from one process; call :meth:`close` in the end.
    """

    def __init__(self, connect: Callable[[], tuple[Registry, str]], spool: Path, *, pace: Pace = _PACE) -> None:
        self._connect = connect
        self._spool = spool
        self._pace = pace
        self._run: tuple[Registry, str] | None = None
        self._failures = 0  # since MLflow last took a batch
        self._jitter = random.Random()  # not the global generator, which is training's
        self._turn = threading.Condition()  # for all that follows
        self._unsent: deque[CurvePoint] = deque()
        self._closing = False
        self._spool_is_ours = True
        self._spool_failed = False
        self._take_over()
        self._thread = threading.Thread(target=self._send_until_closed, daemon=True, name="live-metrics")
        self._thread.start()

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Keep the finite ones of ``figures`` to be sent. Returns at once and never raises; after :meth:`close` it does nothing."""
        points = [CurvePoint(step=step, name=name, value=float(value)) for name, value in figures.items() if math.isfinite(value)]
        with self._turn:
            if self._closing:
                return
            self._unsent.extend(points)
            self._append(points)
            if len(self._unsent) >= self._pace.batch_points:
                self._turn.notify()

    def close(self, timeout: float = _CLOSE_SECONDS) -> None:
        """Try a last time, for ``timeout`` seconds; what MLflow did not confirm stays in the spool. Never raises."""
        with self._turn:
            self._closing = True
            self._turn.notify()
        self._thread.join(timeout)  # MLflow's client may try for minutes; as a daemon it holds nobody up
        with self._turn:
            self._write_spool()
            self._spool_is_ours = False  # a thread that still hangs must not change what a resumed run may be reading
            if self._unsent:
                _log.warning("live_metrics.left_in_spool", points=len(self._unsent))

    def _send_until_closed(self) -> None:
        last = False
        while not last:
            last = self._wait()
            self._send_all()

    def _wait(self) -> bool:
        """Until a batch is due or, in an outage, the next attempt; whether it is the last."""
        with self._turn:
            if self._failures:
                self._turn.wait_for(lambda: self._closing, self._outage_seconds())
            else:
                self._turn.wait_for(lambda: self._closing or len(self._unsent) >= self._pace.batch_points, self._pace.batch_seconds)
            return self._closing

    def _outage_seconds(self) -> float:
        doubled = self._pace.first_wait_seconds * 2.0 ** min(self._failures - 1, 30)
        return min(self._pace.longest_wait_seconds, doubled) * self._jitter.uniform(0.5, 1)

    def _send_all(self) -> None:
        confirmed = False
        try:
            while batch := self._batch():
                if self._run is None:
                    self._run = self._connect()
                registry, run_id = self._run
                registry.log_curves(run_id, batch)
                confirmed = True
                self._confirm(len(batch))
        except Exception as error:  # whatever it is, it must not end the thread: training goes on, and MLflow may come back
            self._failed(error)
        if confirmed:
            with self._turn:
                self._write_spool()

    def _batch(self) -> list[CurvePoint]:
        with self._turn:
            return list(islice(self._unsent, self._pace.batch_points))

    def _confirm(self, count: int) -> None:
        with self._turn:
            for _ in range(count):
                self._unsent.popleft()
        if self._failures:
            _log.info("live_metrics.again", attempts=self._failures + 1)
            self._failures = 0

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            _log.warning("live_metrics.waiting", error=str(error), error_type=type(error).__name__)

    def _take_over(self) -> None:
        """Make the spool's folder, and queue what an earlier process left."""
        try:
            make_folder(self._spool.parent)
            sweep(self._spool.parent)
            lines = self._spool.read_text(encoding="utf-8", errors="replace").splitlines() if self._spool.exists() else []
        except (OSError, AvskriftError) as error:
            self._say_spool_failed(error)
            return
        for line in lines:
            try:
                point = parse_point(line)
            except (ValueError, TypeError, KeyError):  # a process that was killed leaves half a line
                _log.warning("live_metrics.line_skipped")
                continue
            if math.isfinite(point.value):
                self._unsent.append(point)
        if lines:
            _log.info("live_metrics.replaying", points=len(self._unsent))
            self._write_spool()  # without the half line, to which the next point would be added

    def _append(self, points: Iterable[CurvePoint]) -> None:
        try:
            with self._spool.open("a", encoding="utf-8") as spool:
                spool.write("".join(map(_line, points)))
        except OSError as error:
            self._say_spool_failed(error)

    def _write_spool(self) -> None:
        """Let the spool hold what is unsent, and no more."""
        if not self._spool_is_ours:
            return
        try:
            if self._unsent:
                with atomic_file(self._spool, durable=False) as temporary:
                    temporary.write_text("".join(map(_line, self._unsent)), encoding="utf-8")
            else:
                self._spool.unlink(missing_ok=True)
        except (OSError, AvskriftError) as error:
            self._say_spool_failed(error)

    def _say_spool_failed(self, error: Exception) -> None:
        if not self._spool_failed:
            _log.warning("live_metrics.spool_failed", error_type=type(error).__name__, consequence="figures are kept in memory only")
        self._spool_failed = True


def parse_point(line: str) -> CurvePoint:
    """A point from a line of JSON Lines. Raises ValueError, TypeError or KeyError where it is none."""
    raw = json.loads(line)
    return CurvePoint(step=int(raw["step"]), name=str(raw["name"]), value=float(raw["value"]))


def _line(point: CurvePoint) -> str:
    return f"{json.dumps(asdict(point))}\n"
