"""What kfp's tasks swap in this process, two of them side by side as in a ParallelFor."""

from __future__ import annotations

import builtins
import logging
from contextlib import AbstractContextManager

import pytest
from kfp.local.logging_utils import indented_print, local_logger_context

from avskrift_pipelines.leftovers import put_back


@pytest.mark.parametrize("swap", [indented_print, local_logger_context])
def test_of_two_tasks_side_by_side_nothing_is_left(swap: type[AbstractContextManager[None]]) -> None:
    before = _swapped()
    with put_back():
        first, second = swap(), swap()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert _swapped() != before, "kfp restores by itself now: put_back can go"
    assert _swapped() == before


def test_after_a_task_that_failed_nothing_is_left() -> None:
    before = _swapped()
    with pytest.raises(RuntimeError):
        _fail_amid_a_task()
    assert _swapped() == before


@put_back()
def _fail_amid_a_task() -> None:
    indented_print().__enter__()
    raise RuntimeError


def _swapped() -> tuple[object, int, list[logging.Handler]]:
    root = logging.getLogger()
    return builtins.print, root.level, root.handlers[:]
