"""What is chosen for a machine: device, precision, how much at once, whether to compile."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from avskrift.audio.constants import WINDOW_SECONDS
from avskrift.errors import UsageError
from avskrift.training import hardware
from avskrift.training.config import TrainingConfig
from avskrift.training.hardware import (
    Memory,
    choose_compile,
    choose_device,
    choose_memory,
    choose_precision,
    preset_of,
    processes_here,
    trained_weights,
)
from avskrift.training.loader import worker_count
from avskrift.training.presets import PRESETS, preset_for

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@no_gpu
def test_without_a_gpu_auto_is_the_cpu_and_a_gpu_by_name_is_refused() -> None:
    assert choose_device("auto") == choose_device("cpu") == CPU
    for name in ("cuda", "cuda:1"):
        with pytest.raises(UsageError, match=f"device is '{name}', and PyTorch finds no such GPU on this machine; use auto or cpu"):
            choose_device(name)


def test_a_gpu_is_used_without_cudnns_attention_whose_gradients_were_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    try:
        assert choose_device("auto", local_rank=1) == torch.device("cuda", 1)
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


@no_gpu
def test_one_process_trains_on_a_cpu_unless_more_are_asked_for() -> None:
    assert processes_here(TrainingConfig()) == processes_here(TrainingConfig(device="cpu")) == 1
    assert processes_here(TrainingConfig(device="cpu", processes=3)) == 3


def test_one_process_a_gpu_unless_one_gpu_or_a_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    chosen = [processes_here(TrainingConfig(device=device)) for device in ("auto", "cuda", "cuda:2", "cpu")]
    assert chosen == [4, 4, 1, 1]
    assert processes_here(TrainingConfig(processes=2)) == 2


@pytest.mark.parametrize(("generation", "precision"), [((9, 0), torch.bfloat16), ((8, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_a_gpu_gets_bf16_where_it_has_it(generation: tuple[int, int], precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert choose_precision("auto", GPU) == precision


def test_a_cpu_computes_in_fp32_unless_asked_and_never_in_fp16() -> None:
    chosen = [choose_precision(name, CPU) for name in ("auto", "fp32", "bf16")]
    assert chosen == [torch.float32, torch.float32, torch.bfloat16]
    assert choose_precision("fp16", GPU) == torch.float16
    with pytest.raises(UsageError, match="precision is fp16 and the device a CPU"):
        choose_precision("fp16", CPU)


def test_on_a_cpu_as_much_is_taken_at_once_as_is_asked_for_or_as_a_step_and_a_window_have() -> None:
    model = _model(64, 2)
    assert choose_memory(model, TrainingConfig(), CPU, step_seconds=30) == Memory(60, False)
    assert choose_memory(model, TrainingConfig(), CPU, step_seconds=3000) == Memory(240, False)
    assert choose_memory(model, TrainingConfig(micro_batch_seconds=5), CPU, step_seconds=30) == Memory(5, False)
    assert choose_memory(model, TrainingConfig(activation_checkpointing="on"), CPU, step_seconds=30) == Memory(60, True)


class TestMemoryOfAGpu:
    """The free memory is given; whisper-small's shape is what its use was measured of."""

    GB = 10**9

    @pytest.fixture(autouse=True)
    def _gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)

    def _chosen(self, monkeypatch: pytest.MonkeyPatch, gigabytes: float, step_seconds: float = 1e6, **options: Any) -> Memory:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(gigabytes * self.GB), int(80 * self.GB)))
        return choose_memory(_model(768, 12), TrainingConfig(**options), GPU, step_seconds=step_seconds)

    def test_the_more_is_free_the_more_is_taken_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = [self._chosen(monkeypatch, gigabytes).at_once_seconds for gigabytes in (20, 40, 80)]
        assert seconds == sorted(seconds)
        assert seconds[2] > 3 * seconds[0]
        assert not any(self._chosen(monkeypatch, gigabytes).checkpointed for gigabytes in (20, 40, 80))

    def test_what_was_measured_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert 1280 < self._chosen(monkeypatch, 78).at_once_seconds * PRESETS[2].gigabytes_a_second / 0.0295 < 3 * 1280

    def test_where_not_even_two_windows_fit_activations_are_computed_twice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory = self._chosen(monkeypatch, 5)
        assert memory.checkpointed
        assert memory.at_once_seconds >= 30
        assert not self._chosen(monkeypatch, 5, activation_checkpointing="off").checkpointed

    def test_a_step_is_exceeded_by_no_more_than_a_window_and_what_is_asked_for_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self._chosen(monkeypatch, 80, step_seconds=100).at_once_seconds == 100 + WINDOW_SECONDS
        assert self._chosen(monkeypatch, 80, micro_batch_seconds=45).at_once_seconds == 45
        assert self._chosen(monkeypatch, 80, activation_checkpointing="on").checkpointed

    def test_small_parts_are_replayed_and_large_ones_and_checkpointed_ones_are_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self._chosen(monkeypatch, 80, step_seconds=40).replayed
        assert not self._chosen(monkeypatch, 80).replayed
        assert not self._chosen(monkeypatch, 80, step_seconds=40, activation_checkpointing="on").replayed

    def test_fp32_and_an_average_leave_less_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = self._chosen(monkeypatch, 60).at_once_seconds
        assert self._chosen(monkeypatch, 60, precision="fp32").at_once_seconds == pytest.approx(plain / 2)
        assert self._chosen(monkeypatch, 60, ema_decay=0.99).at_once_seconds < plain


class TestCompiling:
    @pytest.fixture(autouse=True)
    def a_c_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CC", sys.executable)  # any program does: nothing is compiled here

    def test_it_is_chosen_by_the_work_ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hardware, "_product_rate", lambda device, dtype: 600e12)
        chosen = [choose_compile(TrainingConfig(), GPU, torch.bfloat16, flops=flops, shapes=4) for flops in (1e15, 1e16, 1e17, 1e18)]
        order = ["off", "layers", "whole"]
        assert [order.index(how) for how in chosen] == sorted(order.index(how) for how in chosen)
        assert (chosen[0], chosen[-1]) == ("off", "whole")

    def test_more_shapes_pay_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hardware, "_product_rate", lambda device, dtype: 600e12)
        flops = next(10**power for power in range(15, 22) if self._how(10**power, shapes=1) != "off")
        assert self._how(flops, shapes=100) == "off"

    def test_a_cpu_never_compiles_by_itself_and_what_is_asked_for_wins(self) -> None:
        assert choose_compile(TrainingConfig(), CPU, torch.float32, flops=1e30, shapes=1) == "off"
        for how in ("off", "layers", "whole"):
            assert choose_compile(TrainingConfig(compile=how), CPU, torch.float32, flops=1.0, shapes=9) == how

    def test_where_there_is_no_c_compiler_nothing_is_compiled(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(hardware, "_product_rate", lambda device, dtype: 600e12)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC")
        assert self._how(1e18, shapes=1) == "off"
        (tmp_path / "gcc").touch(mode=0o755)
        assert self._how(1e18, shapes=1) != "off"

    @staticmethod
    def _how(flops: float, *, shapes: int) -> str:
        return choose_compile(TrainingConfig(), GPU, torch.bfloat16, flops=flops, shapes=shapes)


class TestPresets:
    @pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
    def test_each_size_is_told_by_its_shape(self, preset: Any) -> None:
        assert preset_for(width=preset.width, decoder_layers=preset.decoder_layers) is preset
        assert preset_of(WhisperConfig(d_model=preset.width, decoder_layers=preset.decoder_layers)) is preset

    @pytest.mark.parametrize(
        ("width", "layers", "name"),
        [(64, 2, "tiny"), (640, 6, "base"), (4096, 32, "large-v3"), (1280, 2, "large-v3-turbo"), (768, 2, "small")],
    )
    def test_another_shape_gets_what_suits_the_nearest(self, width: int, layers: int, name: str) -> None:
        assert preset_for(width=width, decoder_layers=layers).name == name

    def test_the_larger_a_model_the_lower_its_rate_and_the_more_memory_it_takes(self) -> None:
        assert [preset.learning_rate for preset in PRESETS] == sorted((preset.learning_rate for preset in PRESETS), reverse=True)
        by_size = sorted(PRESETS, key=lambda preset: (preset.width * preset.encoder_layers, preset.decoder_layers))
        assert [preset.gigabytes_a_second for preset in by_size] == sorted(preset.gigabytes_a_second for preset in PRESETS)
        assert all(preset.checkpointed < preset.gigabytes_a_second for preset in PRESETS)


def test_weights_are_counted() -> None:
    assert trained_weights([torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(5))]) == 11


def test_workers_are_as_many_as_asked_for_or_none_beside_a_cpu_and_some_beside_a_gpu() -> None:
    assert [worker_count(asked, CPU, 1) for asked in (-1, 0, 3)] == [0, 0, 3]
    assert 1 <= worker_count(-1, GPU, 1) <= 14
    assert worker_count(-1, GPU, 1000) == 1
    assert worker_count(0, GPU, 1) == 0


def _model(width: int, layers: int) -> WhisperForConditionalGeneration:
    """Without memory: only its shape is looked at."""
    sizes = {
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": width // 64,
        "decoder_attention_heads": width // 64,
    }
    with torch.device("meta"):
        return WhisperForConditionalGeneration(WhisperConfig(d_model=width, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, **sizes))
