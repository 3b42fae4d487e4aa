"""Where files that are made or downloaded once are kept."""

from __future__ import annotations

import os
from pathlib import Path


def keras_cache(kind: str) -> Path:
    """``$KERAS_HOME/<kind>/alexnet_keras``, absolute, by default in ``~/.keras`` as Keras itself;
    it may not exist yet.

    ``kind``: ``"models"`` or ``"datasets"``, Keras's own names.
    """
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Path(home).absolute() / kind / "alexnet_keras"
