"""The one error tree.

Every failure that a person can cause or cure is an :class:`AvskriftError`. Its message says what was wrong, where, and
what to do; its class fixes the exit code of a command, the status of an HTTP answer, and whether trying again may help.
Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


class AvskriftError(Exception):
    """Root of the tree. The message is one sentence for a person."""

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False


class UsageError(AvskriftError):
    """A parameter, an environment variable or a request field that cannot be used."""

    exit_code = 2
    http_status = 400


class SourceError(AvskriftError):
    """A source of recordings that is missing, empty, or does not match its transcripts."""

    exit_code = 10
    http_status = 400


class DatasetError(AvskriftError):
    """A dataset folder that breaks its contract."""

    exit_code = 11
    http_status = 400


class LanguageError(AvskriftError):
    """A language that Whisper does not know."""

    exit_code = 12
    http_status = 400


class AudioError(AvskriftError):
    """Bytes that cannot be decoded as audio."""

    exit_code = 13
    http_status = 422


class AudioTypeError(AudioError):
    """A container or codec that is not accepted."""

    exit_code = 14
    http_status = 415


class AudioTooLargeError(AudioError):
    """A recording over the limit of bytes or of duration."""

    exit_code = 15
    http_status = 413


class EmptyAudioError(AudioError):
    """A recording without a single sample."""

    exit_code = 16


class NotFiniteAudioError(AudioError):
    """A recording that holds NaN or infinite samples."""

    exit_code = 17


class OverlapError(SourceError):
    """Splits that the sources name share speakers, sentences or recordings."""

    exit_code = 18


class ModelUnavailableError(AvskriftError):
    """A model that cannot be had from where its URI points."""

    exit_code = 20
    http_status = 503


class IntegrityError(AvskriftError):
    """Bytes whose sha256 is not the one on record."""

    exit_code = 21
    http_status = 500


class PackageError(AvskriftError):
    """A model package that breaks its contract."""

    exit_code = 22
    http_status = 500


class StorageError(AvskriftError):
    """A place to read or write that did not answer or refused."""

    exit_code = 30
    http_status = 503
    retryable = True


class DiskFullError(StorageError):
    """No space left where an artifact was being written; nothing half written remains."""

    exit_code = 31
    http_status = 507
    retryable = False


class BusyError(AvskriftError):
    """Another command works in the same state folder."""

    exit_code = 32
    http_status = 503
    retryable = True


class TrainingError(AvskriftError):
    """Training that cannot start or must not go on."""

    exit_code = 40


class CheckpointError(TrainingError):
    """A checkpoint folder from which no state can be resumed."""

    exit_code = 41


class PreemptedError(TrainingError):
    """The machine is needed for something else (SIGTERM): the state is saved, and the same command goes on from it."""

    exit_code = 42
    retryable = True


class EvaluationError(AvskriftError):
    """An evaluation that cannot be trusted."""

    exit_code = 45


class GateRefusedError(AvskriftError):
    """The gate looked and said no. Not a fault: a decision."""

    exit_code = 50


class RegistryError(AvskriftError):
    """MLflow did not answer, or refused."""

    exit_code = 60
    http_status = 503
    retryable = True


class ConflictError(AvskriftError):
    """Somebody else changed, or is changing, what this was about to change: two promotions of one model at once."""

    exit_code = 61
    http_status = 409


class DriftError(AvskriftError):
    """An InferenceService that somebody else changed after deploy applied it."""

    exit_code = 62
    http_status = 409


class DeploymentError(AvskriftError):
    """An endpoint that did not become ready or failed its smoke test."""

    exit_code = 70


class PortTakenError(DeploymentError):
    """The port that the endpoint should listen on belongs to somebody else."""

    exit_code = 71


class EndpointError(AvskriftError):
    """A running endpoint that could not be reached or answered with an error."""

    exit_code = 72
    http_status = 502
    retryable = True


class ClusterError(AvskriftError):
    """The Kubernetes API did not answer, or refused."""

    exit_code = 73
    http_status = 503
    retryable = True


class KubeflowError(AvskriftError):
    """Kubeflow Pipelines did not answer, or refused."""

    exit_code = 74
    http_status = 503
    retryable = True


class AccessError(KubeflowError):
    """Kubeflow Pipelines does not let this user in, or not do this."""

    exit_code = 75
    http_status = 403
    retryable = False


class StepFailedError(AvskriftError):
    """A pipeline step that ended without saying why."""

    exit_code = 80


class RunFailedError(AvskriftError):
    """A run on a cluster that ended without success."""

    exit_code = 81


class InterruptedRunError(AvskriftError):
    """Stopped by a person (Ctrl-C) or by the system (SIGTERM)."""

    exit_code = 130


def disk_full(error: BaseException, *, where: object) -> DiskFullError | None:
    """The error tree's word for ``ENOSPC``/``EDQUOT`` while writing ``where``; None for anything else."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    # Safetensors, shutil.copytree and others wrap what the system said: its words are all that is left of it.
    if getattr(error, "errno", None) not in codes and not any(os.strerror(code) in str(error) for code in codes):
        return None
    return DiskFullError(f"no space left on the disk that holds {where}; free some and run the same command again")


def error_of(exit_code: int, message: str) -> AvskriftError:
    """What a process meant that ended with ``exit_code`` and this message; a failed step where no class has the code."""
    classes = {cls.exit_code: cls for cls in every_error()}
    return classes.get(exit_code, StepFailedError)(message)


def every_error() -> list[type[AvskriftError]]:
    """All classes of the tree, root first, in the order of their exit codes."""
    found, queue = [], [AvskriftError]
    while queue:
        cls = queue.pop()
        found.append(cls)
        queue.extend(cls.__subclasses__())
    return sorted(found, key=lambda cls: cls.exit_code)
