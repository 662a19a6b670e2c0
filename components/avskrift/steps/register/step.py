"""register: what passed the gate becomes a model version, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass

from avskrift.errors import UsageError
from avskrift.evaluation.decision import Decision
from avskrift.evaluation.result_file import evaluation_seal
from avskrift.logs import Log
from avskrift.registry import tags
from avskrift.registry.protocol import CHALLENGER, check_model_name
from avskrift.registry.record import Evidence
from avskrift.steps.run_record import RunOutputs, read_outputs, record_run
from avskrift.storage.door import local_path
from avskrift.whisper.package import open_package

_log = Log("register")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(RunOutputs):
    """What register takes besides the run's outputs.

    ``package_sha256`` and ``code_version`` are needed only where ``package_uri`` is not on this machine, since the package
    is not fetched to be registered.
    """

    model_name: str
    package_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The registered version; ``uri`` is ``models:/NAME/VERSION``."""

    run_id: str
    model_name: str
    version: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Package:
    sha256: str
    code_version: str


def run(config: Config) -> Result:
    """Record the run, register the package and point ``challenger`` at it. Doing it again gives the same version.

    Raises:
        UsageError: the gate did not pass this package, another package was measured, or no model can be called so; nothing was registered.
        EvaluationError: no evaluation or decision that can be read.
        DatasetError: a dataset card that cannot be read.
        PackageError, IntegrityError: the package breaks its contract, or it, the evaluation or the decision was changed since.
        RegistryError: MLflow did not answer or refused.
    """
    check_model_name(config.model_name)
    evidence = read_outputs(config)
    package = _package(config)
    _refuse_unproven(evidence, package.sha256)
    recorded = record_run(config, evidence, code_version=package.code_version)
    labels = {**recorded.labels, tags.PIPELINE_RUN_ID: config.pipeline_run_id}
    version = recorded.registry.register(config.model_name, config.package_uri, recorded.run_id, labels)
    if version.tags.get(tags.PACKAGE_SHA256) != package.sha256:
        raise UsageError(f"{version.uri} of this pipeline run holds another package; register this one under a pipeline run of its own")
    recorded.registry.set_alias(config.model_name, CHALLENGER, version.version)
    if evidence.decision.override is not None and evidence.decision.overridden:
        _log.warning("model.registered_by_override", by=evidence.decision.override.by, reason=evidence.decision.override.reason)
    _log.info("model.registered", model=version.name, version=version.version, package_sha256=package.sha256)
    return Result(run_id=recorded.run_id, model_name=version.name, version=version.version, uri=version.uri)


def _package(config: Config) -> _Package:
    """The package's identity, from its own bytes where they are here."""
    folder = local_path(config.package_uri)
    if folder is None:
        if not config.package_sha256:
            raise UsageError(f"{config.package_uri} is not on this machine: give its package_sha256, which export printed")
        return _Package(sha256=config.package_sha256, code_version=config.code_version)
    package = open_package(folder)
    package.verify()
    sha256 = package.description.sha256
    if config.package_sha256 not in ("", sha256):
        raise UsageError(f"{folder} has sha256 {sha256}, not {config.package_sha256}; give the package that was exported")
    return _Package(sha256=sha256, code_version=config.code_version or package.description.code_version)


def _refuse_unproven(evidence: Evidence, sha256: str) -> None:
    """Fail closed: only a package that was measured, and that the gate passed on that measurement, goes further."""
    if evidence.decision.passed is not True:
        raise UsageError(f"the gate did not pass this package ({'; '.join(evidence.decision.reasons)}); it is not registered")
    measured = evidence.evaluation.candidate.package_sha256
    if measured != sha256:
        raise UsageError(f"the evaluation measured the package {measured}, not {sha256}; evaluate this one, then register it")
    if sha256 not in _judged(evidence.decision):
        raise UsageError(f"the gate's decision is not about the package {sha256}; run the gate on its evaluation, then register it")
    if evidence.decision.evaluation_sha256 != evaluation_seal(evidence.evaluation):
        raise UsageError("the gate's decision is about another evaluation of this package; run the gate on this one, then register it")


def _judged(decision: Decision) -> list[object]:
    return [rule.threshold for rule in decision.rules if rule.name == "same_package" and rule.passed is True]
