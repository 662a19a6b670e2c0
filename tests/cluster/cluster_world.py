"""A cluster to deploy to: an API server, KServe's controller, an ingress and a registry, with deploy and rollback on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from api_server import NAMESPACE, ApiServer, Object
from kserve_controller import Gateway, Kserve

from avskrift.deployment.cluster import Cluster, Patience, connect
from avskrift.deployment.probing import Bounds
from avskrift.deployment.waiting import Pace
from avskrift.registry import tags
from avskrift.registry.mlflow_registry import MlflowRegistry
from avskrift.registry.protocol import CHAMPION, RunKey
from avskrift.steps.deploy.step import Config, Result, RolledBack, rollback, run

MODEL = "whisper-sv"
IMAGE = "registry.example/avskrift/serving@sha256:" + "1" * 64
TOKEN = "sesam-oppna-dig"
PACE = Pace(ready_timeout_s=3.0, look_s=0.005, say_s=0.5, settle_s=0.03, answer_timeout_s=1.0)
BOUNDS = Bounds(stage_s=0.12, interval_s=0.001, quick_enough_s=5.0)  # a busy machine is no slow version
PATIENCE = Patience(tries=4, first_wait_s=0.01, connect_s=0.5, answer_s=0.4)


@dataclass
class World:
    server: ApiServer
    gateway: Gateway
    kserve: Kserve
    registry: MlflowRegistry
    kubeconfig: Path
    out: Path

    def deploy(self, version: str, *, pace: Pace = PACE, bounds: Bounds = BOUNDS, **changes: Any) -> Result:
        given: dict[str, Any] = {"target": "kserve", "service_name": "tal", "image": IMAGE}
        given |= {"namespace": "", "kubeconfig": str(self.kubeconfig), "model_name": MODEL, "version": version, "out": self.out}
        return run(Config(**{**given, **changes}), pace=pace, bounds=bounds)

    def roll_back(self, *, pace: Pace = PACE, **changes: Any) -> RolledBack:
        given: dict[str, Any] = {"target": "kserve", "service_name": "tal", "namespace": "", "canary": "none", "out": self.out}
        return rollback(Config(**{**given, "model_name": "", "version": "", "kubeconfig": str(self.kubeconfig), **changes}), pace=pace)

    def champion(self) -> str:
        found = self.registry.version_of_alias(MODEL, CHAMPION)
        return found.version if found else ""

    def traffic(self) -> dict[str, int]:
        """Whose answers the URL gives now, in percent."""
        return {version: percent for version, percent in self.gateway.split.items() if percent}

    def version_on_record(self) -> str:
        return str(self.server.service()["metadata"]["annotations"]["avskrift/model"]).rpartition("/")[2]

    def cluster(self) -> Cluster:
        return connect(kubeconfig=str(self.kubeconfig), patience=PATIENCE)

    def spec(self) -> Object:
        spec: Object = self.server.service()["spec"]
        return spec


def register(registry: MlflowRegistry, version: str) -> None:
    run_id = registry.open_run(RunKey(pipeline_run_id=f"run-{version}", experiment="swedish"))
    identity = {tags.PIPELINE_RUN_ID: f"run-{version}", tags.PACKAGE_SHA256: version * 64, tags.LANGUAGE: "sv"}
    made = registry.register(MODEL, f"s3://models/{MODEL}/{version}", run_id, identity)
    assert made.version == version


def write_kubeconfig(path: Path, server: str, *, namespace: str = NAMESPACE) -> None:
    contexts = [
        {"name": name, "context": {"cluster": "test", "user": "deployer", "namespace": place}}
        for name, place in (("test", namespace), ("other", "elsewhere"))
    ]
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "contexts": contexts,
        "users": [{"name": "deployer", "user": {"token": TOKEN}}],
    }
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
