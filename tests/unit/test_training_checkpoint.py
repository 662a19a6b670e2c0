"""A checkpoint brings back weights, optimizer and settings bit for bit, and takes no more room than it must."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn
from transformers import WhisperForConditionalGeneration

from avskrift.errors import CheckpointError, UsageError
from avskrift.training.checkpoint import Checkpoints, Progress, Tensors, load_weights, optimizer_tensors, restore_optimizer
from avskrift.whisper.transformers_folder import load_model

JOB, OTHER_JOB = "a" * 64, "b" * 64


class Small(nn.Module):
    """Some decayed weights, some that are not, and one that is never trained."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.frozen = nn.Parameter(torch.rand(3), requires_grad=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.norm(self.first(inputs))
        return hidden.pow(2).mean() * torch.rand(1).squeeze()


def test_training_goes_on_bit_for_bit_where_the_checkpoint_left_it(tmp_path: Path) -> None:
    model = Small(1)
    optimizer = _optimizer(model)
    progress = Progress()
    for step in range(1, 4):
        progress = Progress(step=step, curve=(*progress.curve, (step, "train_loss", _step(model, optimizer))))
    save(Checkpoints(tmp_path, JOB), model, optimizer, progress)
    on = [_step(model, optimizer) for _ in range(3)]

    resumed = Small(2)
    resumed_optimizer = _optimizer(resumed)
    assert resume(Checkpoints(tmp_path, JOB), resumed, resumed_optimizer) == progress
    assert [_step(resumed, resumed_optimizer) for _ in range(3)] == on
    _assert_equal(resumed, model)
    _assert_equal_state(resumed_optimizer, optimizer)


def test_a_checkpoint_before_the_first_step_is_one_too(tmp_path: Path) -> None:
    model = Small(1)
    save(Checkpoints(tmp_path, JOB), model, _optimizer(model), Progress())
    resumed = Small(2)
    assert resume(Checkpoints(tmp_path, JOB), resumed, _optimizer(resumed)) == Progress()
    _assert_equal(resumed, model)


def test_a_whispers_tied_output_layer_is_still_its_embeddings_after_a_resume(tmp_path: Path, tiny_whisper: Path) -> None:
    model, resumed = (load_model(tiny_whisper, torch.device("cpu")) for _ in range(2))
    optimizer, resumed_optimizer = _optimizer(model), _optimizer(resumed)
    _whisper_step(model, optimizer)
    save(Checkpoints(tmp_path, JOB), model, optimizer, Progress(step=1))
    resume(Checkpoints(tmp_path, JOB), resumed, resumed_optimizer)
    assert resumed.proj_out.weight is resumed.model.decoder.embed_tokens.weight
    for either, its_optimizer in ((model, optimizer), (resumed, resumed_optimizer)):
        _whisper_step(either, its_optimizer)
    _assert_equal(resumed, model)


def test_without_a_checkpoint_nothing_is_changed(tmp_path: Path) -> None:
    model = Small(1)
    assert resume(Checkpoints(tmp_path, JOB), model, _optimizer(model)) is None
    _assert_equal(model, Small(1))


def test_only_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints = Checkpoints(tmp_path, JOB)
    for step in (1, 2, 10, 100):
        save(checkpoints, model, _optimizer(model), Progress(step=step))
    assert _names(tmp_path) == ["step-00000010", "step-00000100"]


def test_best_weights_are_kept_as_long_as_a_checkpoint_names_them(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints, optimizer, progress = Checkpoints(tmp_path, JOB), _optimizer(model), Progress()
    for step in (10, 20):
        _step(model, optimizer)
        progress = _best(checkpoints, model, step)
        save(checkpoints, model, optimizer, progress)
    assert _names(tmp_path) == ["best-00000010.safetensors", "best-00000020.safetensors", "step-00000010", "step-00000020"]
    for step in (30, 40):
        save(checkpoints, model, optimizer, Progress(step=step, best_wer=0.5, best_step=20, best_sha256=progress.best_sha256))
    assert _names(tmp_path) == ["best-00000020.safetensors", "step-00000030", "step-00000040"]


def test_the_best_weights_come_back_and_not_the_last(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints = Checkpoints(tmp_path, JOB)
    progress = _best(checkpoints, model, 1)
    _step(model, _optimizer(model))
    load_weights(model, checkpoints.best(progress))
    _assert_equal(model, Small(1))


def test_a_validation_that_no_checkpoint_saw_leaves_nothing_for_the_resumed_run_to_meet(tmp_path: Path) -> None:
    model = Small(1)
    checkpoints, optimizer = Checkpoints(tmp_path, JOB), _optimizer(model)
    first = _best(checkpoints, model, 10)
    save(checkpoints, model, optimizer, first)
    _step(model, optimizer)
    _best(checkpoints, model, 20)  # and killed before the next checkpoint

    resumed = Small(2)
    again = Checkpoints(tmp_path, JOB)
    assert resume(again, resumed, _optimizer(resumed)) == first
    load_weights(resumed, again.best(first))
    _assert_equal(resumed, Small(1))
    assert _names(tmp_path) == ["best-00000010.safetensors", "step-00000010"]


def test_best_weights_without_any_checkpoint_are_swept_when_training_starts_anew(tmp_path: Path) -> None:
    model = Small(1)
    _best(Checkpoints(tmp_path, JOB), model, 5)
    assert resume(Checkpoints(tmp_path, JOB), model, _optimizer(model)) is None
    assert _names(tmp_path) == []


def test_the_checkpoint_of_another_job_is_never_used(tmp_path: Path) -> None:
    model = Small(1)
    save(Checkpoints(tmp_path, JOB), model, _optimizer(model), Progress(step=1))
    fresh = Small(2)
    assert resume(Checkpoints(tmp_path, OTHER_JOB), fresh, _optimizer(fresh)) is None
    _assert_equal(fresh, Small(2))


def test_the_checkpoint_of_a_job_with_the_same_short_name_is_never_used(tmp_path: Path) -> None:
    model = Small(1)
    save(Checkpoints(tmp_path, JOB), model, _optimizer(model), Progress(step=1))
    fresh = Small(2)
    with pytest.raises(CheckpointError, match="none of 1 checkpoints is whole"):
        resume(Checkpoints(tmp_path, JOB[:16] + "c" * 48), fresh, _optimizer(fresh))
    _assert_equal(fresh, Small(2))


def test_a_finished_job_leaves_nothing_and_touches_no_other(tmp_path: Path) -> None:
    model = Small(1)
    for job in (JOB, OTHER_JOB):
        save(Checkpoints(tmp_path, job), model, _optimizer(model), Progress(step=1))
    Checkpoints(tmp_path, JOB).remove()
    assert _names(tmp_path, JOB) == []
    assert _names(tmp_path, OTHER_JOB) == ["step-00000001"]


def test_tensors_may_change_as_soon_as_save_returns(tmp_path: Path) -> None:
    weights = {"large": torch.zeros(4_000_000)}
    with Checkpoints(tmp_path, JOB) as checkpoints:
        for step in (1, 2):  # the second copy is made into the first one's memory
            checkpoints.save({"weights": weights}, Progress(step=step))
            weights["large"] += 1
    for step, value in ((1, 0.0), (2, 1.0)):
        assert torch.equal(
            load_file(tmp_path / JOB[:16] / f"step-0000000{step}" / "weights.safetensors")["large"], torch.full((4_000_000,), value)
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_on_a_gpu_may_change_too_and_their_pinned_memory_is_used_again(tmp_path: Path) -> None:
    weights = {"large": torch.zeros(50_000_000, device="cuda"), "turned": torch.ones(3, 5, device="cuda", dtype=torch.bfloat16).t()}
    with Checkpoints(tmp_path, JOB) as checkpoints:
        for step in (1, 2):
            checkpoints.save({"weights": weights}, Progress(step=step))
            for tensor in weights.values():
                tensor += 1
    for step in (1, 2):
        back = load_file(tmp_path / JOB[:16] / f"step-0000000{step}" / "weights.safetensors")
        assert torch.equal(back["large"], torch.full((50_000_000,), step - 1.0))
        assert torch.equal(back["turned"], torch.full((5, 3), float(step), dtype=torch.bfloat16))


def test_a_checkpoint_is_safetensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    parts = {"weights": {"w": torch.ones(2)}, "optimizer": {}, "average": {"w": torch.zeros(2)}}
    Checkpoints(tmp_path, JOB).save(parts, Progress(step=1), wait=True)
    folder = tmp_path / JOB[:16] / "step-00000001"
    assert sorted(path.name for path in folder.iterdir()) == [
        "average.safetensors",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    assert json.loads((folder / "state.json").read_text())["job"] == JOB


_DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
_TENSORS = st.builds(
    lambda dtype, shape, seed: torch.randint(0, 2 if dtype == torch.bool else 100, shape, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    ),
    st.sampled_from(_DTYPES),
    st.lists(st.integers(0, 4), max_size=3),
    st.integers(0, 9),
)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.dictionaries(
        st.sampled_from(["weights", "optimizer", "average"]), st.dictionaries(st.text("ab.0", min_size=1), _TENSORS, max_size=3)
    ),
    transposed=st.booleans(),
)
def test_tensors_of_any_type_and_shape_come_back_bit_for_bit(parts: dict[str, dict[str, torch.Tensor]], transposed: bool) -> None:
    if transposed:
        parts = {
            part: {name: tensor.transpose(0, -1) if tensor.ndim else tensor for name, tensor in given.items()}
            for part, given in parts.items()
        }
    with tempfile.TemporaryDirectory() as folder:
        with Checkpoints(folder, JOB) as checkpoints:
            checkpoints.save(parts, Progress(step=1))
        restored = Checkpoints(folder, JOB).resume()
    assert restored is not None
    assert restored.parts.keys() == parts.keys()
    for part, tensors in parts.items():
        assert restored.parts[part].keys() == tensors.keys()
        for name, tensor in tensors.items():
            back = restored.parts[part][name]
            assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(back, tensor)


def test_tensors_that_share_memory_come_back_each(tmp_path: Path) -> None:
    tied = torch.arange(6.0)
    parts = {"weights": {"embeddings": tied, "output": tied, "half": tied[3:]}}
    checkpoints = Checkpoints(tmp_path, JOB)
    checkpoints.save(parts, Progress(step=1), wait=True)
    sha256 = checkpoints.save_best(parts["weights"], 1)
    restored = checkpoints.resume()
    assert restored is not None
    best = checkpoints.best(Progress(step=1, best_step=1, best_wer=0.0, best_sha256=sha256))
    for back in (restored.parts["weights"], best):
        assert {name: tensor.tolist() for name, tensor in back.items()} == {
            "embeddings": tied.tolist(),
            "output": tied.tolist(),
            "half": [3.0, 4.0, 5.0],
        }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    wanted=st.dictionaries(st.text(), _JSON, max_size=4),
    curve=st.lists(st.tuples(st.integers(0), st.text(), st.floats(allow_nan=False)), max_size=3),
    examples=st.lists(st.tuples(st.integers(0), st.text(), st.text(), st.text()), max_size=3),
)
def test_settings_and_progress_come_back_as_they_were(wanted: dict[str, Any], curve: list[Any], examples: list[Any]) -> None:
    progress = Progress(step=3, curve=tuple(curve), examples=tuple(examples), worse_validations=2)
    with tempfile.TemporaryDirectory() as folder:
        Checkpoints(folder, JOB).save({}, progress, wanted, wait=True)
        restored = Checkpoints(folder, JOB).resume()
    assert restored is not None
    assert (restored.progress, restored.settings) == (progress, wanted)


def test_settings_that_are_no_json_are_refused_where_they_are_given(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, JOB) as checkpoints, pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.save({}, Progress(step=1), {"rng": torch.zeros(1)})
    assert _names(tmp_path) == []


def test_the_newest_so_many_are_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, JOB, keep=3) as checkpoints:
        for step in range(1, 6):
            checkpoints.save({}, Progress(step=step))
    assert _names(tmp_path) == ["step-00000003", "step-00000004", "step-00000005"]


def test_best_weights_that_come_while_a_checkpoint_is_written_wait_for_the_next_one(tmp_path: Path) -> None:
    model = Small(1)
    with Checkpoints(tmp_path, JOB, keep=1) as checkpoints:
        first = _best(checkpoints, model, 8)
        for step, kept in ((9, 10), (10, 10)):  # measured at a later step, and at the very same
            checkpoints.save({}, replace(first, step=step))
            _best(checkpoints, model, kept)
            checkpoints.wait()
            assert _names(tmp_path) == ["best-00000008.safetensors", "best-00000010.safetensors", f"step-{step:08d}"]
        checkpoints.save({}, replace(_best(checkpoints, model, 10), step=11), wait=True)
    assert _names(tmp_path) == ["best-00000010.safetensors", "step-00000011"]


def test_a_closed_one_may_be_used_again(tmp_path: Path) -> None:
    checkpoints, before = Checkpoints(tmp_path, JOB), set(threading.enumerate())
    for step in (1, 2):
        with checkpoints:
            checkpoints.save({}, Progress(step=step))
    assert _names(tmp_path) == ["step-00000001", "step-00000002"]
    assert set(threading.enumerate()) <= before


def test_weights_go_into_the_parameters_they_name_and_no_others() -> None:
    model, before = Small(1), Small(1)
    load_weights(model, {"first.bias": torch.full((8,), 2.0)})
    assert torch.equal(model.first.bias, torch.full((8,), 2.0))
    assert torch.equal(model.first.weight, before.first.weight)
    with pytest.raises(KeyError, match=r"no parameter second\.bias"):
        load_weights(model, {"first.bias": torch.zeros(8), "second.bias": torch.zeros(8)})
    assert torch.equal(model.first.bias, torch.full((8,), 2.0))


def test_a_folder_may_be_named_by_a_uri(tmp_path: Path) -> None:
    Checkpoints(tmp_path.as_uri(), JOB).save({}, Progress(step=1), wait=True)
    assert _names(tmp_path) == ["step-00000001"]


@pytest.mark.parametrize("place", ["gs://bucket/prefix", "s3://", "s3:///prefix"])
def test_a_place_of_another_kind_is_named(place: str) -> None:
    with pytest.raises(UsageError, match=place):
        Checkpoints(place, JOB)


def test_keeping_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keep 1 or more"):
        Checkpoints(tmp_path, JOB, keep=0)


def save(checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """As the training loop does it, random state and all."""
    parts: dict[str, Tensors] = {"weights": _weights(model), "optimizer": optimizer_tensors(optimizer)}
    checkpoints.save(parts, progress, {"rng": torch.get_rng_state().tolist()}, wait=True)


def resume(checkpoints: Checkpoints, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
    restored = checkpoints.resume()
    if restored is None:
        return None
    load_weights(model, restored.parts["weights"])
    restore_optimizer(optimizer, restored.parts["optimizer"])
    torch.set_rng_state(torch.tensor(restored.settings["rng"], dtype=torch.uint8))
    return restored.progress


def _weights(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def _optimizer(model: nn.Module) -> torch.optim.AdamW:
    """As the training loop makes it: fused, in two groups."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": 0.1},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), fused=True)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model(torch.rand(5, 4))
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _whisper_step(model: WhisperForConditionalGeneration, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model.proj_out(model.model.decoder.layer_norm(model.model.decoder.embed_tokens(torch.tensor([[1, 2]])))).pow(2).mean().backward()
    optimizer.step()


def _best(checkpoints: Checkpoints, model: nn.Module, step: int) -> Progress:
    return Progress(step=step, best_wer=0.5, best_step=step, best_sha256=checkpoints.save_best(_weights(model), step))


def _names(folder: Path, job: str = JOB) -> list[str]:
    return sorted(path.name for path in (folder / job[:16]).glob("*"))


def _assert_equal(one: nn.Module, other: nn.Module) -> None:
    others = dict(other.named_parameters())
    assert others
    for name, parameter in one.named_parameters():
        assert torch.equal(parameter, others[name]), name


def _assert_equal_state(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, entry in theirs["state"].items():
        for name, value in entry.items():
            mine = ours["state"][index][name]
            assert torch.equal(mine, value), (index, name)
            assert (mine.dtype, mine.shape, mine.device) == (value.dtype, value.shape, value.device)
