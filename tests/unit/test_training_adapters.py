"""What is trained is what the configuration says, and a model with adapters is saved as a plain Whisper."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from avskrift.errors import UsageError
from avskrift.training.adapters import ADAPTED_LAYERS, merged, prepare_parameters, trained_parameters
from avskrift.training.config import TrainingConfig
from avskrift.whisper.transformers_folder import check_transformers_folder, copy_companions, load_model

_LORA = TrainingConfig(lora_rank=4)
_POSITIONS = "model.encoder.embed_positions.weight"


@pytest.fixture
def model(tiny_whisper: Path) -> WhisperForConditionalGeneration:
    return load_model(tiny_whisper, torch.device("cpu")).eval()


class TestPlain:
    def test_everything_but_the_fixed_positions_is_trained(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, TrainingConfig())
        assert set(trained_parameters(model)) == {name for name, _ in model.named_parameters()} - {_POSITIONS}

    def test_the_tied_output_layer_is_trained_once(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, TrainingConfig())
        trained = trained_parameters(model)
        assert "model.decoder.embed_tokens.weight" in trained
        assert "proj_out.weight" not in trained
        assert len({id(parameter) for parameter in trained.values()}) == len(trained)

    def test_a_frozen_encoder_leaves_the_decoder(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, TrainingConfig(freeze_encoder=True))
        assert set(trained_parameters(model)) == {name for name, _ in model.named_parameters() if name.startswith("model.decoder.")}
        before = {name: value.clone() for name, value in model.state_dict().items()}
        _train(model)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert any(name.startswith("model.decoder.") for name in changed)
        assert not any(name.startswith("model.encoder.") for name in changed)

    def test_without_adapters_merging_changes_nothing(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, TrainingConfig(freeze_encoder=True))
        before, trained = {name: value.clone() for name, value in model.state_dict().items()}, set(trained_parameters(model))
        merged(model)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert set(trained_parameters(model)) == trained


class TestLora:
    def test_adapters_stand_around_every_matrix_of_every_layer_and_only_they_are_trained(
        self, model: WhisperForConditionalGeneration
    ) -> None:
        matrices = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear) and name.endswith(ADAPTED_LAYERS)}
        assert len(matrices) == 2 * 6 + 2 * 10  # two layers a side; the decoder's attend twice
        prepare_parameters(model, _LORA)
        assert set(trained_parameters(model)) == {f"{name}.lora_{side}.default.weight" for name in matrices for side in "AB"}

    def test_the_model_stays_the_class_that_it_is_and_its_outputs_what_they_were(self, model: WhisperForConditionalGeneration) -> None:
        before, kinds = _logits(model), (type(model), type(model.model.encoder), type(model.model.decoder))
        prepare_parameters(model, _LORA)
        assert (type(model), type(model.model.encoder), type(model.model.decoder)) == kinds
        assert torch.equal(_logits(model), before)

    def test_the_seed_decides_how_adapters_begin(self, tiny_whisper: Path) -> None:
        begun = []
        for seed in (1, 1, 2):
            model = load_model(tiny_whisper, torch.device("cpu"))
            torch.manual_seed(seed)
            prepare_parameters(model, _LORA)
            begun.append(torch.cat([parameter.detach().flatten() for parameter in trained_parameters(model).values()]))
        assert torch.equal(begun[0], begun[1])
        assert not torch.equal(begun[0], begun[2])

    @pytest.mark.parametrize(("alpha", "scale"), [(0.0, 2.0), (6.0, 1.5)])
    def test_alpha_is_twice_the_rank_unless_it_is_given(self, model: WhisperForConditionalGeneration, alpha: float, scale: float) -> None:
        layer = model.model.decoder.layers[0].fc1
        weight = layer.weight.detach().clone()
        prepare_parameters(model, TrainingConfig(lora_rank=4, lora_alpha=alpha))
        first, second = (parameter for name, parameter in trained_parameters(model).items() if "decoder.layers.0.fc1" in name)
        with torch.no_grad():
            second.normal_()
        expected = weight + scale * second.detach() @ first.detach()
        merged(model)
        assert torch.allclose(model.model.decoder.layers[0].fc1.weight, expected, atol=1e-6)

    def test_training_changes_the_adapters_alone(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, _LORA)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        _train(model)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert all(".lora_" in name for name in changed)

    def test_a_merged_model_gives_what_it_gave(self, model: WhisperForConditionalGeneration) -> None:
        model.double()  # so random a model makes much of float32's rounding
        untrained = _logits(model)
        prepare_parameters(model, _LORA)
        _train(model)
        adapted = _logits(model)
        assert not torch.allclose(adapted, untrained, atol=1e-2)
        merged(model)
        assert torch.allclose(_logits(model), adapted, atol=1e-5)

    def test_a_merged_model_is_saved_as_a_plain_whisper(
        self, model: WhisperForConditionalGeneration, tiny_whisper: Path, tmp_path: Path
    ) -> None:
        names = list(model.state_dict())
        prepare_parameters(model, _LORA)
        _train(model)
        merged(model)
        assert list(model.state_dict()) == names
        assert set(trained_parameters(model)) == {name for name, _ in model.named_parameters()} - {_POSITIONS}

        model.save_pretrained(tmp_path)
        copy_companions(tiny_whisper, tmp_path)
        check_transformers_folder(tmp_path, "merged")
        assert not list(tmp_path.glob("adapter*"))
        saved, found = WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True, local_files_only=True)
        assert not found["missing_keys"]
        assert not found["unexpected_keys"]
        assert torch.equal(_logits(saved.eval()), _logits(model))

    def test_merging_twice_is_merging_once(self, model: WhisperForConditionalGeneration) -> None:
        prepare_parameters(model, _LORA)
        _train(model)
        merged(model)
        once = _logits(model)
        merged(model)
        assert torch.equal(_logits(model), once)

    def test_without_peft_the_option_is_refused_and_others_work(
        self, model: WhisperForConditionalGeneration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "peft", None)  # as Python marks what cannot be imported
        with pytest.raises(UsageError, match=r"lora_rank is 4 and peft cannot be imported .* lora_rank to 0"):
            prepare_parameters(model, _LORA)
        prepare_parameters(model, TrainingConfig(freeze_encoder=True))
        merged(model)


def _inputs(model: WhisperForConditionalGeneration) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(5)
    features = torch.randn(2, model.config.num_mel_bins, 3000, generator=chance).to(model.dtype)
    return {"input_features": features, "decoder_input_ids": torch.randint(0, 1000, (2, 6), generator=chance)}


def _logits(model: WhisperForConditionalGeneration) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**_inputs(model)).logits
    return logits


def _train(model: WhisperForConditionalGeneration) -> None:
    """Three steps, with a gradient that reaches all that is trained."""
    optimizer = torch.optim.Adam(trained_parameters(model).values(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        model(**_inputs(model)).logits.logsumexp(dim=-1).mean().backward()
        optimizer.step()
