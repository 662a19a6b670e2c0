"""The file by which MLflow knows a package: with it, ``mlflow.pyfunc.load_model`` loads the folder as it lies.

Source of the format: MLflow's documentation, "MLflow Models", "Storage Format" and "pyfunc: filesystem format".
"""

from __future__ import annotations

MLMODEL_FILE = "MLmodel"
READ_PATHS = "read_paths"  # see avskrift.whisper.pyfunc

# No signature: with one, MLflow takes audio in one form only. No time, no id and no patch version of Python: the same model
# exported again is the same package. The loader is named and not kept with the model, since that would take a pickle or code.
_MLMODEL = f"""\
flavors:
  python_function:
    config:
      {READ_PATHS}: false
    loader_module: avskrift.whisper.pyfunc
    python_version: '3.11'
metadata:
  description: Audio in (a column of bytes or base64), text out. Needs avskrift[serving] where it is loaded.
"""


def mlmodel() -> str:
    """The content of :data:`MLMODEL_FILE`, the same for every package: what differs is in ``model.json`` beside it."""
    return _MLMODEL
