"""The numbers of the error tree make sense to the programs that read them."""

from __future__ import annotations

import errno
import os
from http import HTTPStatus

import pytest

from avskrift import errors
from avskrift.errors import AvskriftError, DiskFullError, InterruptedRunError, StorageError, disk_full, every_error
from avskrift.steps.boundary import as_failure, peak_rss_mb

OURS = [error for error in every_error() if error.__module__ == errors.__name__]


def test_no_two_errors_share_an_exit_code() -> None:
    assert len({error.exit_code for error in OURS}) == len(OURS)
    assert OURS[0] is AvskriftError


@pytest.mark.parametrize("error", OURS)
def test_an_error_has_numbers_that_shells_and_browsers_understand(error: type[AvskriftError]) -> None:
    assert 1 <= error.exit_code < 126 or error.exit_code == 130, "shells give 126 and above a meaning of their own"
    assert 400 <= HTTPStatus(error.http_status) < 600
    if error.retryable:
        assert HTTPStatus(error.http_status) >= 500, "what the client must mend is not mended by asking again"


@pytest.mark.parametrize("error", OURS[1:])
def test_an_error_says_in_its_docstring_what_it_stands_for(error: type[AvskriftError]) -> None:
    assert error.__doc__
    assert error.__doc__ != error.__mro__[1].__doc__


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_known_by_its_number_and_by_its_words(code: int) -> None:
    said = os.strerror(code)
    for error in (OSError(code, said), OSError(code, said, "/data/out"), RuntimeError(f"I/O error: {said} (os error {code})")):
        full = disk_full(error, where="/data")
        assert isinstance(full, DiskFullError)
        assert str(full) == "no space left on the disk that holds /data; free some and run the same command again"


def test_other_failures_to_write_are_no_full_disk() -> None:
    assert disk_full(OSError(errno.EACCES, "Permission denied"), where="/data") is None
    assert disk_full(ValueError("space"), where="/data") is None


def test_a_failure_in_the_trees_own_words_is_kept_and_a_bug_has_none() -> None:
    known = StorageError("the bucket is gone; make it")
    assert as_failure(known) is known
    assert isinstance(as_failure(KeyboardInterrupt()), InterruptedRunError)
    assert isinstance(as_failure(OSError(errno.ENOSPC, "No space left on device", "/data/out")), DiskFullError)
    assert as_failure(ValueError("a bug")) is None
    assert as_failure(FileNotFoundError(errno.ENOENT, "No such file")) is None


def test_peak_memory_is_counted_in_megabytes() -> None:
    held = b"x" * 300_000_000
    assert 300 < peak_rss_mb() < 100_000
    assert len(held) == 300_000_000
