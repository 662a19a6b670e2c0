"""Which container image each role runs in, for the components' ``base_image``.

Read when a pipeline is compiled, never inside a container: there, ``images/images.lock.json`` is not at hand and the
names alone are enough.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal, get_args

import avskrift
from avskrift.errors import UsageError

Role = Literal["data", "train", "serving", "ops"]
ROLES: tuple[Role, ...] = get_args(Role)
LOCK_VARIABLE = "AVSKRIFT_IMAGES_LOCK"
_LOCK_FILE = Path(__file__).parents[3] / "images" / "images.lock.json"


def image(role: Role) -> str:
    """The reference of a role's image: what the lock file says, else the tag of this version.

    Raises:
        UsageError: the lock file cannot be read or lacks the role.
    """
    path = Path(os.environ.get(LOCK_VARIABLE) or _LOCK_FILE)
    if not path.is_file():
        return f"avskrift/{role}:{avskrift.__version__}"
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[role])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: names no image for {role!r} ({type(error).__name__}); build the images again or mend the file"
        ) from error
