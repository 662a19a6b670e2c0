"""A run of its own for each step that has figures, below the pipeline run's: on MLflow's page each opens with charts of its own.

The pipeline run's record holds the same figures, and alone the inputs: that is what runs are compared and searched by.
"""

from __future__ import annotations

from dataclasses import replace

from avskrift.registry.dataset import figures_of
from avskrift.registry.protocol import Registry, RunKey
from avskrift.registry.record import Evidence, figures, record_training

PREPARE, FINE_TUNE, EVALUATE = "prepare", "fine_tune", "evaluate"


def record_steps(registry: Registry, key: RunKey, evidence: Evidence) -> None:
    """Write what prepare, fine_tune and evaluate found into runs of theirs, and end those. Doing it again adds nothing.

    A step of which nothing is known has none. Curves are by training step, all else by step 0. The runs last as long as the
    writing does: what a step took is not known here.

    Raises:
        RegistryError: MLflow did not answer or refused.
        UsageError: a line of the curves that cannot be read.
    """
    if evidence.dataset is not None:
        run_id = registry.open_run(replace(key, child=PREPARE))
        registry.log_metrics(run_id, figures_of(evidence.dataset))
        registry.close_run(run_id, "FINISHED")
    if evidence.training is not None:
        run_id = registry.open_run(replace(key, child=FINE_TUNE))
        record_training(registry, run_id, evidence.training, evidence.parameters)
        registry.close_run(run_id, "FINISHED")
    run_id = registry.open_run(replace(key, child=EVALUATE))
    registry.log_metrics(run_id, figures(evidence.evaluation))
    registry.close_run(run_id, "FINISHED")
