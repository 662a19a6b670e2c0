"""Forward and backward recorded once a shape as a CUDA graph: one launch for thousands of kernels.

A small part (a few clips, or a small model) is over on the GPU before the CPU has launched it; replayed, it is not.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from avskrift import logs

_log = logs.Log("training")


class Replays:
    """Calls ``compute`` with tensors of a few static shapes; from a shape's second call on, by replaying a recording.

    ``compute`` must leave its results in tensors that stay where they are, must not wait for the GPU, and gives nothing back.
    The first call of a shape runs as it is: it makes what kernels make once, which a recording must not.
    """

    def __init__(self, compute: Callable[..., None]) -> None:
        self._compute = compute
        self._recorded: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...]]] = {}
        self._met: set[tuple[torch.Size, ...]] = set()
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, *given: torch.Tensor) -> None:
        shapes = tuple(tensor.shape for tensor in given)
        if shapes not in self._met:
            self._met.add(shapes)
            self._aside(lambda: self._compute(*given))
            return
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(given)
        graph, held = self._recorded[shapes]
        for kept, tensor in zip(held, given, strict=True):
            kept.copy_(tensor)
        graph.replay()

    def _record(self, given: tuple[torch.Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[torch.Tensor, ...]]:
        held = tuple(tensor.clone() for tensor in given)
        graph = torch.cuda.CUDAGraph()
        # Of this thread alone: the one that makes batches pins memory meanwhile, which would spoil a recording of all threads.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            self._compute(*held)
        _log.info("training.recorded", shapes=len(self._recorded) + 1)
        return graph, held

    def _aside(self, call: Callable[[], None]) -> None:
        """On the stream that records: what autograd keeps for a parameter belongs to the stream that used it first."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            call()
        current.wait_stream(self._stream)
