"""A compiled pipeline of four tasks, and what runs the command on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

AVSKRIFT = str(Path(sys.executable).parent / "avskrift")
Command = Callable[..., subprocess.CompletedProcess[str]]

PIPELINE = """\
pipelineInfo:
  name: small-pipeline
  description: Three tasks, two of them inside an exit handler.
root:
  dag:
    tasks:
      exit-handler-1: {componentRef: {name: comp-exit-handler-1}, cachingOptions: {enableCache: true}}
      finalize: {componentRef: {name: comp-finalize}, cachingOptions: {}}
  inputDefinitions:
    parameters:
      epochs: {parameterType: NUMBER_INTEGER, defaultValue: 3.0, isOptional: true}
      experiment: {parameterType: STRING, defaultValue: avskrift, isOptional: true}
      learning_rate: {parameterType: NUMBER_DOUBLE, defaultValue: 0.0, isOptional: true}
      tracking_uri: {parameterType: STRING, defaultValue: '', isOptional: true}
      training_options: {parameterType: STRUCT, defaultValue: {}, isOptional: true}
      tolerations: {parameterType: LIST, defaultValue: [], isOptional: true}
      validated_remainder: {parameterType: BOOLEAN, defaultValue: false, isOptional: true}
components:
  comp-exit-handler-1:
    dag:
      tasks:
        prepare: {componentRef: {name: comp-prepare}, cachingOptions: {enableCache: true}}
        fine-tune: {componentRef: {name: comp-fine-tune}, cachingOptions: {enableCache: true}}
        evaluate: {componentRef: {name: comp-evaluate}, cachingOptions: {enableCache: true}}
  comp-prepare: {executorLabel: exec-prepare}
  comp-fine-tune: {executorLabel: exec-fine-tune}
  comp-evaluate: {executorLabel: exec-evaluate}
  comp-finalize: {executorLabel: exec-finalize}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""
