"""KServe's controller and the ingress before it, as far as deploy looks at them: status, pods, and whose answers a URL gives.

``outcomes`` and ``answers`` say by version what becomes of its pods and how they answer. A service's status changes as it is looked
at: at the first look nothing was observed yet, at the second new pods are on their way, at the third their fate is known.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from api_server import NAMESPACE, PODS, SERVICES, ApiServer, Object, now

SLOW_SECONDS = 1.5
_LOOKS_UNTIL_OBSERVED, _LOOKS_UNTIL_DECIDED = 1, 2
# Pods as a kubelet reports them: phase, states of the containers, of the init containers, conditions.
_SIGNED = "https://store.example/model?X-Amz-Signature=abcdef&X-Amz-Credential=AKIAABCDEFGHIJKLMNOP"
FATES: dict[str, Object] = {
    "ready": {"containerStatuses": [{"name": "kserve-container", "restartCount": 0, "state": {"running": {}}}]},
    "never": {
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/3 nodes are available: 3 Insufficient cpu.",
            }
        ]
    },
    "image": {
        "containerStatuses": [
            {
                "name": "kserve-container",
                "restartCount": 0,
                "state": {
                    "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "registry.example/avskrift/serving:2"'}
                },
            }
        ]
    },
    "storage": {
        "initContainerStatuses": [
            {
                "name": "storage-initializer",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
                "lastState": {
                    "terminated": {"exitCode": 1, "reason": "Error", "message": f"Traceback\nRuntimeError: 403 for {_SIGNED}"},
                },
            }
        ]
    },
    "crash": {
        "containerStatuses": [
            {
                "name": "kserve-container",
                "restartCount": 4,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {
                    "terminated": {
                        "exitCode": 21,
                        "reason": "Error",
                        "message": "loading\navskrift.serving: /mnt/models holds the package with sha256 ab, not cd",
                    }
                },
            }
        ]
    },
    "blocked": {"containerStatuses": [{"name": "kserve-container", "restartCount": 0, "state": {"running": {}}}]},
}


@dataclass
class Gateway:
    """The service's URL. Traffic is split exactly: of ten requests at 10 %, one. ``by_version`` counts transcriptions."""

    url: str = ""
    split: dict[str, int] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    by_version: Counter[str] = field(default_factory=Counter)
    served: dict[str, Counter[str]] = field(default_factory=dict)
    splits: bool = True  # False: an ingress that knows nothing of canaries
    others: dict[str, int] = field(default_factory=dict)  # requests of other people that a version's process failed
    started: dict[str, float] = field(default_factory=dict)  # a version's process, in seconds since the epoch; else after all tests
    on_transcription: Any = None
    _owed: Counter[str] = field(default_factory=Counter)

    def next_version(self) -> str:
        shares = {version: percent for version, percent in self.split.items() if percent}
        if not self.splits and shares:
            return next(iter(shares))
        for version, percent in shares.items():
            self._owed[version] += percent
        chosen = max(shares, key=lambda version: self._owed[version], default="")
        if chosen:
            self._owed[chosen] -= 100
        return chosen


class Kserve:
    """``mode`` Standard or Knative, as the annotation says. ``serving``: predictors whose pods are ready, by their place.

    ``scaled``: how many pods an autoscaler made of what serves under the service's own name in Standard mode.
    """

    def __init__(self, server: ApiServer, gateway: Gateway) -> None:
        self.server, self.gateway = server, gateway
        self.outcomes: dict[str, str] = {}
        self.scaled = 1
        self.serving: dict[str, Object] = {}
        self.rolled_out: Object = {}  # of Knative: the last revision that had all of the traffic
        self._looks: Counter[str] = Counter()
        server.before_read, server.after_write = self._look, self._written
        self.traffic_log: list[dict[str, int]] = []

    def _written(self, path: str) -> None:
        if path.startswith(SERVICES):
            self._looks[path] = 0

    def _look(self, path: str) -> None:
        if not path.startswith(f"{SERVICES}/") or path not in self.server.objects:
            return
        looks = self._looks[path]
        self._looks[path] += 1
        live = self.server.objects[path]
        if looks < _LOOKS_UNTIL_OBSERVED:
            return
        self._clear_pods()
        knative = live["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
        (self._knative if knative else self._standard)(live, decided=looks >= _LOOKS_UNTIL_DECIDED)
        live["status"]["observedGeneration"] = live["metadata"]["generation"]
        live["status"]["url"] = self.gateway.url
        live["status"]["deploymentMode"] = "Knative" if knative else "Standard"
        if not self.traffic_log or self.traffic_log[-1] != self.gateway.split:
            self.traffic_log.append(dict(self.gateway.split))

    def _standard(self, live: Object, *, decided: bool) -> None:
        name = live["metadata"]["name"]
        wanted = {"": live["spec"]["predictor"]} | {
            entry["predictor"]["name"]: entry["predictor"] for entry in live["spec"].get("canary", [])
        }
        self.serving = {place: predictor for place, predictor in self.serving.items() if place in wanted}
        for place, predictor in wanted.items():
            self._bring_up(name, place, predictor, decided=decided)
        shares = {
            entry["predictor"]["name"]: entry["trafficPercent"]
            for entry in live["spec"].get("canary", [])
            if entry["predictor"]["name"] in self.serving
        }
        stable = self.serving.get("")
        split: Counter[str] = Counter()
        if stable:
            split[version_of(stable)] += 100 - sum(shares.values())
        for place, percent in shares.items():
            split[version_of(self.serving[place])] += percent
        self.gateway.split = dict(split)
        blocked = self.outcomes.get(version_of(live["spec"]["predictor"])) == "blocked" and decided
        live["status"] |= {
            "conditions": [
                {
                    "type": "PredictorReady",
                    "status": "True" if stable else "False",
                    "reason": "" if stable else "MinimumReplicasUnavailable",
                },
                {
                    "type": "Ready",
                    "status": "True" if stable else "False",
                    "message": "" if stable else "Deployment does not have minimum availability.",
                },
            ],
            "modelStatus": {
                "transitionStatus": "BlockedByFailedLoad",
                "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no weights"},
            }
            if blocked
            else {"transitionStatus": "UpToDate"},
            "canaryStatuses": [
                {
                    "name": entry["predictor"]["name"],
                    "ready": entry["predictor"]["name"] in self.serving,
                    "trafficPercent": entry["trafficPercent"],
                }
                for entry in live["spec"].get("canary", [])
            ],
        }

    def _bring_up(self, name: str, place: str, predictor: Object, *, decided: bool) -> None:
        """A rolling update: the pods of before stay until new ones are ready."""
        before = self.serving.get(place)
        app = f"isvc.{name}-{place}-predictor" if place else f"isvc.{name}-predictor"
        if before is not None and revision_of(before) == revision_of(predictor):
            for number in range(1 if place else self.scaled):
                self._pod(name, app, predictor, "ready", number)
            return
        fate = self.outcomes.get(version_of(predictor), "ready") if decided else "starting"
        self._pod(name, app, predictor, fate)
        if fate == "ready":
            self.serving[place] = copy.deepcopy(predictor)
        elif before is not None:
            self._pod(name, app, before, "ready")

    def _knative(self, live: Object, *, decided: bool) -> None:
        name, predictor = live["metadata"]["name"], live["spec"]["predictor"]
        percent = predictor.get("canaryTrafficPercent", 100)
        latest = self.serving.get("")
        if latest is None or revision_of(latest) != revision_of(predictor):
            fate = self.outcomes.get(version_of(predictor), "ready") if decided else "starting"
            self._pod(name, f"{name}-{revision_of(predictor)}", predictor, fate)
            if fate == "ready":
                latest = self.serving[""] = copy.deepcopy(predictor)
        ready = latest is not None and revision_of(latest) == revision_of(predictor)
        if latest is not None:
            self._pod(name, f"{name}-{revision_of(latest)}", latest, "ready")
        if ready and percent == 100:
            self.rolled_out = copy.deepcopy(predictor)
        traffic: list[Object] = []
        if ready:
            traffic.append({"latestRevision": True, "percent": percent, "revisionName": revision_of(predictor)})
        if self.rolled_out and revision_of(self.rolled_out) != revision_of(predictor):
            traffic.append({"percent": 100 - percent if ready else 100, "tag": "prev", "revisionName": revision_of(self.rolled_out)})
        split: Counter[str] = Counter()
        for target in traffic:
            split[version_of(predictor if target.get("latestRevision") else self.rolled_out)] += target["percent"]
        self.gateway.split = dict(split)
        up = "True" if ready else "False"
        live["status"] |= {
            "conditions": [
                {"type": "PredictorReady", "status": up},
                {"type": "Ready", "status": up, "message": "" if ready else "Revision is not ready."},
            ],
            "components": {
                "predictor": {
                    "latestCreatedRevision": revision_of(predictor),
                    "latestReadyRevision": revision_of(latest) if latest else "",
                    "traffic": traffic,
                }
            },
        }

    def _clear_pods(self) -> None:
        for path in [path for path in self.server.objects if path.startswith(PODS)]:
            del self.server.objects[path]

    def _pod(self, name: str, app: str, predictor: Object, fate: str, number: int = 0) -> None:
        pod_name = f"{app.removeprefix('isvc.')}-{revision_of(predictor)[:6]}" + (f"-{number}" if number else "")
        labels = {**predictor["labels"], "app": app, "serving.kserve.io/inferenceservice": name, "component": "predictor"}
        said = dict(FATES.get(fate) or {})
        conditions = said.pop("conditions", [{"type": "Ready", "status": "True" if fate in ("ready", "blocked") else "False"}])
        self.server.objects[f"{PODS}/{pod_name}"] = {
            "metadata": {"name": pod_name, "namespace": NAMESPACE, "labels": labels, "creationTimestamp": now()},
            "status": {"conditions": conditions, **said},
        }


def version_of(predictor: Object) -> str:
    return str(predictor["labels"]["avskrift/model-version"])


def revision_of(predictor: Object) -> str:
    return str(predictor["labels"]["avskrift/revision"])


@contextmanager
def gateway() -> Iterator[Gateway]:
    """A real HTTP server on loopback; ``answers`` has by version good (the default), errors, hears-nothing, or slow."""
    made, lock, woken = Gateway(), threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                version = made.next_version()
            if self.path == "/metrics":
                self._answer(200 if version else 503, figures(version, made), "text/plain")
            else:
                self._answer(200 if version else 503, json.dumps({"name": "tal", "versions": [version] if version else None}))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                version = made.next_version()
                made.by_version[version] += 1
            if made.on_transcription:
                made.on_transcription(made)
            how = made.answers.get(version, "good")
            if how == "slow":
                woken.wait(SLOW_SECONDS)
            code = 503 if not version else 500 if how == "errors" else 200
            with lock:
                made.served.setdefault(version, Counter())[str(code)] += 1
            text = "" if how == "hears-nothing" else f"version {version}"
            self._answer(code, json.dumps({"text": text} if code == 200 else {"error": {"message": "the engine failed"}}))

        def log_message(self, *_: object) -> None:
            return

        def _answer(self, code: int, body: str, kind: str = "application/json") -> None:
            content = body.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    made.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield made
    finally:
        woken.set()
        http.shutdown()
        http.server_close()


def figures(version: str, made: Gateway) -> str:
    """As a predictor's /metrics has them, one process for each version."""
    counts = Counter(made.served.get(version, Counter())) + Counter({"500": made.others.get(version, 0)})
    lines = [
        f'avskrift_model_info{{name="tal",sha256="ab",version="{version}"}} 1.0',
        f"process_start_time_seconds {made.started.get(version, 4e9)}",
    ]
    lines += [f'avskrift_requests_total{{protocol="openai",status="{code}"}} {count}.0' for code, count in counts.items()]
    return "\n".join(lines) + "\n"
