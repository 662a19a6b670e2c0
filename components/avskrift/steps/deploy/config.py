"""What the step deploy takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avskrift.deployment.local import READY_TIMEOUT_SECONDS

Target = Literal["local", "kserve", "manifest"]
TARGETS = ("local", "kserve", "manifest")
STAGES = "10,50,100"
CLUSTER_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What deploy takes. An empty ``package_uri`` means where the registry says that the version lies.

    ``smoke_audio`` is a recording for the smoke test, else a generated tone, of which only an answer is expected. For ``local``:
    the port. For ``kserve``, which applies, and ``manifest``, which only writes: the serving image and what it is given.
    ``out`` is the folder for ``deployment.json`` and, but for ``local``, ``inferenceservice.yaml``.
    ``ready_timeout_s`` bounds every single wait in seconds; 0 for 180 on this machine and 900 on a cluster.
    """

    model_name: str
    version: str
    out: str | Path
    package_uri: str = ""
    target: Target | str = "local"
    service_name: str = "avskrift"
    tracking_uri: str = ""
    home: str | Path | None = None
    port: int = 8085
    smoke_audio: str | Path | None = None
    ready_timeout_s: float = 0.0
    # What the InferenceService is.
    namespace: str = "default"  # "" for the kubeconfig's own, or the pod's
    image: str = ""
    cpu: str = "2"
    memory: str = "4Gi"
    gpus: int = 0
    min_replicas: int = 1
    max_replicas: int = 1
    service_account: str = ""
    mode: str = "standard"  # or knative
    autoscaler: str = ""  # KServe's autoscaler class
    grpc: bool = False
    # How it gets there.
    context: str = ""
    kubeconfig: str = ""
    service_url: str = ""  # in place of the URL that KServe gives the service
    canary: str = STAGES  # percents of the traffic, or none
    watch_s: float = 60.0  # at each stage
    max_error_rate: float = 0.02
    max_latency_ratio: float = 2.0
    force: bool = False

    @property
    def timeout_s(self) -> float:
        return self.ready_timeout_s or (READY_TIMEOUT_SECONDS if self.target == "local" else CLUSTER_TIMEOUT_SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``url`` of the endpoint, "" where only a manifest was written. ``promoted``: ``champion`` is this version now."""

    target: str
    version: str
    url: str
    promoted: bool
    transcript: str = ""
    manifest: Path | None = None
