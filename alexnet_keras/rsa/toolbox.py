"""rsatoolbox, imported where it is used: the extra ``science`` installs it."""

from __future__ import annotations

from types import ModuleType

from alexnet_keras.errors import ConfigurationError


def import_rsatoolbox() -> ModuleType:
    """The package, with its ``rdm`` and ``inference``. Raises ``ConfigurationError``."""
    try:
        import rsatoolbox.inference
        import rsatoolbox.rdm
    except ImportError as error:
        raise ConfigurationError(
            "similarity: expected rsatoolbox, got none; install it with "
            f'python -m pip install "alexnet_keras[science]" ({error})'
        ) from None
    return rsatoolbox
