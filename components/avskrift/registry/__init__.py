"""MLflow, behind a small protocol.

MLflow takes its settings from the environment when it is imported, so they are here, which Python runs before any module
of this package. A server that is away must be reported in seconds, a run in a closed network must not try to phone home,
and MLflow's chatter is not ours. What a person has set stands.
"""

import os

_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
