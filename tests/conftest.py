"""Fixtures that every test may use: a state folder of its own, the embedded weights, a tiny random Whisper, a tiny dataset."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from avskrift.whisper.package import ModelPackage

os.environ["HF_HUB_OFFLINE"] = "1"  # the hub's client reads it once, when it is imported
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    # Workers share the cores. Threads of which there are more than cores wait for one another spinning, and take several times as long.
    _share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _share)))
# The same examples each time, and none fails for being slow.
settings.register_profile("avskrift", derandomize=True, deadline=None)
settings.load_profile("avskrift")


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the state of the person who runs it, or asks a hub."""
    monkeypatch.setenv("AVSKRIFT_HOME", str(tmp_path / "avskrift-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def kfp_root(tmp_path: Path) -> Iterator[Path]:
    """Where ``kfp.local`` keeps what its tasks make, each a process of this virtual environment."""
    from kfp import local

    from avskrift_pipelines.leftovers import put_back

    root = tmp_path / "root"
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
    with put_back():
        yield root


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of what is made once a session."""
    return tmp_path_factory.mktemp("shared-home")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database on SQLite with nothing in it, to be copied: MLflow takes seconds to make its tables."""
    from avskrift.registry.mlflow_registry import open_registry

    path = tmp_path_factory.mktemp("empty-database") / "mlflow.db"
    open_registry(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def bundled_whisper(shared_home: Path) -> Path:
    """The real whisper-base as CTranslate2 keeps it, joined from its packages."""
    from avskrift.storage.door import fetch

    with _home(shared_home):
        return fetch("package:whisper-base")


@pytest.fixture(scope="session")
def whisper_base(shared_home: Path) -> Path:
    """The real whisper-base as a ``transformers`` folder, converted once a session."""
    from avskrift.whisper.transformers_folder import open_model

    with _home(shared_home):
        return open_model("package:whisper-base")


@pytest.fixture(scope="session")
def tiny_whisper(bundled_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``transformers`` folder of a randomly initialised Whisper: 64 features, two layers a side, whisper-base's tokenizer."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    from avskrift.whisper.transformers_folder import generation_settings, write_preprocessor, write_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "whisper"
    folder.mkdir()
    vocabulary = write_tokenizer(bundled_whisper / "tokenizer.json", folder)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), vocabulary["<|endoftext|>"])
    small = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
    small |= {"encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "decoder_start_token_id": vocabulary["<|startoftranscript|>"]}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(20)
        model = WhisperForConditionalGeneration(WhisperConfig(**ids, **small, init_std=0.1))
        for layer in (*model.model.encoder.layers, *model.model.decoder.layers):
            for weights in layer.parameters():
                weights *= 3.0  # the tied embeddings would drown so small a layer, and every text be one token repeated
    settings = json.loads((bundled_whisper / "config.json").read_text(encoding="utf-8"))
    model.generation_config = generation_settings(settings | {"alignment_heads": [[1, 0]]}, vocabulary)
    model.save_pretrained(folder)
    write_preprocessor(folder, model.config.num_mel_bins)
    return folder


@pytest.fixture(scope="session")
def tiny_package(tiny_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    """The model package of the tiny Whisper, which is always given 30 s of encoder context."""
    from avskrift.whisper.export import Provenance, export_package
    from avskrift.whisper.package import EncoderContext

    provenance = Provenance(base_model="tiny", base_model_sha256="0" * 64, encoder_context=EncoderContext(policy="full"))
    return export_package(tiny_whisper, tmp_path_factory.mktemp("tiny-package") / "package", provenance)


@pytest.fixture(scope="session")
def tiny_dataset(shared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of 24, 8 and 8 demo clips."""
    from avskrift.steps.prepare.step import Config, run

    with _home(shared_home):
        return run(Config(source="demo:tiny", out=tmp_path_factory.mktemp("tiny-dataset") / "dataset")).dataset


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    """A state folder for fixtures that outlive a test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVSKRIFT_HOME", str(folder))
        yield
