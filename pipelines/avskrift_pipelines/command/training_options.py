"""Training's options on the command line, made from :class:`TrainingConfig`'s fields: names, types, defaults and help stand there alone."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from avskrift.errors import UsageError
from avskrift.storage.door import local_path
from avskrift.training.config import TrainingConfig, parse_options

CheckpointsPlace = Annotated[
    str, typer.Option(help="Where checkpoints go: a folder or `s3://BUCKET/PREFIX`; `checkpoints/` in the state folder by default.")
]
TrainingWords = Annotated[
    list[str],
    typer.Option(
        "--training",
        metavar="NAME=VALUE",
        help="Any training option that `avskrift fine-tune` has, as `lora_rank=16`; again for another. It wins over those here.",
    ),
]
# In the order of the help. The language is the dataset's, and no option.
PANELS = {
    "Length": ("epochs", "max_steps", "validate_steps", "early_stopping"),
    "Learning rate": ("learning_rate", "schedule", "warmup_share", "weight_decay", "beta2", "max_gradient_norm"),
    "Batches": ("batch_seconds", "micro_batch_seconds", "packed_share", "empty_share", "previous_text_share", "seed"),
    "Quality": (
        "label_smoothing",
        "bpe_dropout",
        "activation_dropout",
        "spec_augment_share",
        "speed_share",
        "gain_share",
        "noise_share",
        "ema_decay",
    ),
    "What is trained": ("freeze_encoder", "lora_rank", "lora_alpha"),
    "Speed": ("precision", "compile", "activation_checkpointing", "workers", "threads"),
    "Where and how": ("device", "processes", "checkpoint_minutes", "checkpoints_kept"),
}


def with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with an option for each field in place of its parameter ``training``, which it is called with.

    What the fields hold is checked before ``command`` begins.
    """

    @functools.wraps(command)
    def parsed(**given: Any) -> None:
        training = TrainingConfig(**{name: given.pop(name) for name in _names()})
        command(training=training, **given)

    hints = get_type_hints(command, include_extras=True)
    own = [parameter.replace(annotation=hints[name]) for name, parameter in inspect.signature(command).parameters.items()]
    options = [option for panel, names in PANELS.items() for option in _options(panel, names)]
    parameters = [parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own if parameter.name != "training"] + options
    setattr(parsed, "__signature__", inspect.Signature(parameters))  # noqa: B010 - mypy knows no such attribute of a function
    parsed.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return parsed


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """What ``--training NAME=VALUE`` says, as values of the fields.

    Raises:
        UsageError: a word without "=", a name that is no option, a value of another type, or a name given twice.
    """
    read: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"--training {word!r} has no value; write NAME=VALUE, as lora_rank=16")
        if name in read:
            raise UsageError(f"--training names {name} twice; give it once")
        read |= parse_options({name: value.strip()})
    return read


def checkpoints_place(place: str) -> str:
    """``place`` with a folder spelled out, since steps run in folders of their own; empty for the state folder's.

    Raises:
        UsageError: neither a folder nor ``s3://BUCKET/PREFIX``.
    """
    if place.startswith("s3://"):
        if not place.removeprefix("s3://").partition("/")[0]:
            raise UsageError(f"--checkpoints {place}: names no bucket; write s3://BUCKET/PREFIX")
        return place
    folder = local_path(place) if place else None
    if place and folder is None:
        raise UsageError(f"--checkpoints {place}: checkpoints cannot be kept there; name a folder or s3://BUCKET/PREFIX")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise UsageError(f"--checkpoints {place} is a file; name a folder or s3://BUCKET/PREFIX")
    return str(folder.absolute()) if folder is not None else ""


def _names() -> list[str]:
    return [name for names in PANELS.values() for name in names]


def _options(panel: str, names: Sequence[str]) -> list[inspect.Parameter]:
    fields = {field.name: field for field in dataclasses.fields(TrainingConfig)}
    hints = get_type_hints(TrainingConfig)
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=fields[name].default,
            annotation=Annotated[hints[name], typer.Option(help=fields[name].metadata["help"], rich_help_panel=panel)],
        )
        for name in names
    ]
