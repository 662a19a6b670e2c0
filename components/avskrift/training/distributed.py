"""Several processes that train one model, each on parts of every step. One process is a world of one.

The environment decides, as torchrun (and Kubeflow Trainer through it) sets it: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
MASTER_ADDR, MASTER_PORT.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from avskrift.errors import UsageError

_PATIENCE = timedelta(minutes=30)  # the first process may validate or write while the others wait


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that reads checkpoints, writes and reports."""
        return self.rank == 0

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace ``tensor`` by its sum over all processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process."""
        if self.size == 1:
            return flag
        asked = torch.tensor(int(flag))
        distributed.all_reduce(asked, op=distributed.ReduceOp.MAX)
        return bool(asked.item())

    def gather(self, value: Any) -> list[Any]:
        """Every process's ``value``, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The first process's ``value``, which holds no large tensors."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]

    def tensors_from_first(self, parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, dict[str, torch.Tensor]]:
        """The first process's tensors by part and name, on the CPU."""
        shapes = self.from_first({part: {name: (value.shape, value.dtype) for name, value in held.items()} for part, held in parts.items()})
        given: dict[str, dict[str, torch.Tensor]] = {}
        for part, names in shapes.items():
            given[part] = {}
            for name, (shape, dtype) in names.items():
                value = parts[part][name].cpu().contiguous() if self.first else torch.empty(shape, dtype=dtype)
                if self.size > 1:
                    distributed.broadcast(value, src=0)
                given[part][name] = value
        return given


@contextmanager
def joined(device_type: str) -> Iterator[World]:
    """The world that the environment names, joined for the time of the body.

    Raises:
        UsageError: an environment that names only half of it.
    """
    world = world_of_environment()
    if world.size == 1:
        yield world
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield world
    finally:
        distributed.destroy_process_group()


def under_torchrun() -> bool:
    """Whether torchrun, or something like it, started this process."""
    return "RANK" in os.environ or "WORLD_SIZE" in os.environ


def world_of_environment() -> World:
    """What torchrun set; a world of one where it did not.

    Raises:
        UsageError: a number that is none, or one without the others.
    """
    if not under_torchrun():
        return World()
    values = []
    for name, default in (("RANK", None), ("WORLD_SIZE", None), ("LOCAL_RANK", "RANK"), ("LOCAL_WORLD_SIZE", "WORLD_SIZE")):
        given = os.environ.get(name) or os.environ.get(default or "", "")
        try:
            values.append(int(given))
        except ValueError as error:
            raise UsageError(
                f"{name} is {given!r}; torchrun sets it to a number: start with torchrun, or unset RANK and WORLD_SIZE"
            ) from error
    return World(*values)
