"""A release names every image by digest, or is not compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avskrift.errors import UsageError
from avskrift.steps.images import LOCK_VARIABLE
from avskrift_pipelines.release import require_digests

_DIGEST = "sha256:" + "0123456789abcdef" * 4
_ROLES = ("data", "train", "serving", "ops")


def _compiled(**images: str) -> dict[Path, str]:
    executors = {f"exec-{step}": {"container": {"image": image}} for step, image in images.items()}
    executors["exec-imported"] = {"importer": {"artifactUri": {"constant": "s3://bucket/model"}}}
    return {Path("a/pipeline.yaml"): json.dumps({"deploymentSpec": {"executors": executors}})}


def _release(folder: Path, lock: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """``avskrift compile --release``; in a process of its own, since components name their images when they are imported."""
    path = folder / "images.lock.json"
    path.write_text(json.dumps(lock), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("avskrift")), "compile", "--release", "--out", str(folder / "out")]
    return subprocess.run(command, env=os.environ | {LOCK_VARIABLE: str(path)}, capture_output=True, text=True, check=False)


def test_images_by_digest_are_let_through_and_what_runs_in_none_is_not_asked() -> None:
    require_digests(_compiled(prepare=f"registry.example:5000/avskrift/data@{_DIGEST}", gate=f"avskrift/data:0.1.0@{_DIGEST}"))


@pytest.mark.parametrize(
    "reference", ["python", "avskrift/other:1.0", f"avskrift/other@{_DIGEST[:-1]}", f"avskrift/other@{_DIGEST.upper()}", f"@{_DIGEST}", ""]
)
def test_an_image_without_a_whole_digest_is_refused_with_its_step(reference: str) -> None:
    with pytest.raises(UsageError, match=r"no role of ours: .*\(prepare of pipeline\.yaml\)"):
        require_digests(_compiled(prepare=reference))


def test_resources_for_kubernetes_are_looked_through_too() -> None:
    ((path, text),) = _compiled(prepare="avskrift/other:1").items()
    resources = [{"kind": "Pipeline", "spec": {}}, {"kind": "PipelineVersion", "spec": {"pipelineSpec": json.loads(text)}}]
    with pytest.raises(UsageError, match=r"avskrift/other:1 \(prepare of pipeline\.yaml\)"):
        require_digests({path: "\n---\n".join(map(json.dumps, resources))})


def test_the_role_is_named_and_what_to_do() -> None:
    with pytest.raises(
        UsageError, match=r"train: avskrift/train:\S+ \(fine-tune of pipeline\.yaml and 1 more\).*images/build --push REGISTRY"
    ):
        require_digests(_compiled(**dict.fromkeys(("fine-tune", "tune-again"), _tag("train"))))


def test_a_release_is_compiled_from_a_lock_that_names_every_role_by_digest(tmp_path: Path) -> None:
    released = _release(tmp_path, {role: f"registry.example/avskrift/{role}@{_DIGEST}" for role in _ROLES})
    assert released.returncode == 0, released.stderr
    assert (tmp_path / "out" / "fine_tune.yaml").read_text(encoding="utf-8").count(_DIGEST) > len(_ROLES)


def test_one_tag_among_digests_refuses_the_release_and_nothing_is_written(tmp_path: Path) -> None:
    lock = {role: f"registry.example/avskrift/{role}@{_DIGEST}" for role in _ROLES}
    refused = _release(tmp_path, lock | {"serving": "registry.example/avskrift/serving:latest"})
    assert refused.returncode == UsageError.exit_code
    assert "serving: registry.example/avskrift/serving:latest" in refused.stderr
    assert "data:" not in refused.stderr
    assert not (tmp_path / "out").exists()


def _tag(role: str) -> str:
    from avskrift.steps.images import image

    return image(role)  # type: ignore[arg-type]
