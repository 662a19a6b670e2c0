"""Which parameters are trained: all, the decoder's, or those of low-rank adapters that are folded into the weights at the end.

Adapters: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models* (2021).
"""

from __future__ import annotations

import torch
from transformers import WhisperForConditionalGeneration

from avskrift.errors import UsageError
from avskrift.training.config import TrainingConfig

# Every matrix of a layer: attention's four and the feed-forward two, of encoder and decoder.
ADAPTED_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_ADAPTED = ".base_layer"  # where an adapter keeps the layer that it stands around


def prepare_parameters(model: WhisperForConditionalGeneration, config: TrainingConfig) -> None:
    """Mark in place what ``config`` trains, and put adapters around layers where it asks for them.

    Adapters begin without effect; their initial values follow ``torch.manual_seed``. The model stays the class that it is,
    and its encoder and decoder stay where they are. The encoder's positions are fixed sinusoids and never trained.

    Raises:
        UsageError: adapters are asked for and ``peft`` is not installed.
    """
    if config.lora_rank:
        _add_adapters(model, rank=config.lora_rank, alpha=config.lora_alpha or 2.0 * config.lora_rank)
        return
    model.requires_grad_(True)
    model.model.encoder.embed_positions.requires_grad_(False)
    if config.freeze_encoder:
        model.model.encoder.requires_grad_(False)


def merged(model: WhisperForConditionalGeneration) -> None:
    """Fold adapters into the weights that they stand around, in place: what is left is a plain Whisper, all of it trainable.

    Does nothing to a model without adapters.
    """
    names = [name.removesuffix(_ADAPTED) for name, _ in model.named_modules() if name.endswith(_ADAPTED)]
    for name in names:
        adapter = model.get_submodule(name)
        adapter.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, adapter.base_layer)
    if names:
        del model.peft_config
        model.requires_grad_(True)
        model.model.encoder.embed_positions.requires_grad_(False)


def trained_parameters(model: WhisperForConditionalGeneration) -> dict[str, torch.nn.Parameter]:
    """The parameters that get gradients, by name; the output layer is the embeddings again and is not named twice."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _add_adapters(model: WhisperForConditionalGeneration, *, rank: int, alpha: float) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model  # here, since it takes seconds and few runs need it
    except ImportError as error:
        raise UsageError(
            f"lora_rank is {rank} and peft cannot be imported ({error}); install avskrift with its extra train, or set lora_rank to 0"
        ) from error
    adapters = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # it only divides it by the rank
        lora_dropout=0.0,
        bias="none",
        target_modules=list(ADAPTED_LAYERS),
    )
    inject_adapter_in_model(adapters, model)
