"""AlexNet for Keras 3.

Every command is also a function here, with the same options as keywords::

    run = alexnet_keras.transfer(data="photographs", epochs=6)
    run.result["top1"], run.history["val_top1"], run.model
    alexnet_keras.predict("dog.jpg", weights=run).top[0]

``alexnet_keras.weights`` and ``alexnet_keras.modes`` are the packages ``weights`` and ``modes``
installed beside this one. Names are imported on first use, so that ``import alexnet_keras`` does
not import TensorFlow.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

# public name -> module, and the name in it where that differs
_PUBLIC = {
    "scratch": "modes.scratch:run_scratch",
    "transfer": "modes.transfer:run_transfer",
    "extract": "modes.extract:run_extraction",
    "evaluate": "modes.evaluate:run_evaluation",
    "predict": "modes.predict:run_prediction",
    "probe": "modes.probe:run_probe",
    "similarity": "modes.similarity:run_similarity",
    "Run": "alexnet_keras.training.run",
    "AlexNet": "alexnet_keras.applications",
    "preprocess_input": "alexnet_keras.applications",
    "decode_predictions": "alexnet_keras.applications",
    "load_model": "alexnet_keras.models.saving",
    "load_pretrained": "alexnet_keras.pretrained.loading",
    "distance": "modes.distance:run_distance",
    "perceptual_distance": "alexnet_keras.perceptual.lpips",
    "PerceptualDistance": "alexnet_keras.perceptual.lpips",
    "read_features": "alexnet_keras.features.saved",
    "merge_features": "alexnet_keras.features.merging",
    "feature_extractor": "alexnet_keras.features.extractor",
    "summarize": "alexnet_keras.models.summary",
    "Architecture": "alexnet_keras.configs.architecture",
    "Preprocessing": "alexnet_keras.configs.preprocessing",
    "AlexNetError": "alexnet_keras.errors",
}
_PACKAGES = ("modes", "weights")
__all__ = ["__version__", "resume", *_PUBLIC]


def resume(run, *, verbose="auto", **changes):
    """Resume a run of ``scratch`` or ``transfer`` from its newest complete checkpoint.

    ``run``: a run folder, or the ``Run`` that an interrupted call returned. ``changes``: the
    options that a resumed run may change, such as ``epochs`` (docs/usage.md lists them). A run
    that has already finished is returned unchanged. Returns a ``Run``; raises ``RunError``.

    Example::

        alexnet_keras.resume("runs/scratch-1", epochs=60).result["top1"]
    """
    folder = Path(run)
    mode = import_module("alexnet_keras.training.run_config").read_mode(folder)
    return __getattr__(mode)(resume=folder, verbose=verbose, **changes)


def __getattr__(name):
    if name in _PACKAGES:
        return import_module(name)
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # TensorFlow reads this when it is imported; oneDNN is faster on every CPU with AVX2.
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__():
    return [*__all__, *_PACKAGES]


def _check_own_packages():
    """Raise ``ImportError`` if another package named ``modes`` or ``weights`` shadows ours."""
    home = Path(__file__).resolve().parent.parent
    for name in _PACKAGES:
        spec = find_spec(name)
        folders = list(spec.submodule_search_locations or [spec.origin]) if spec else []
        if not folders or Path(folders[0]).resolve() != home / name:
            found = f"{folders[0]}, which shadows it" if folders else "nothing"
            raise ImportError(
                f"alexnet_keras: expected its package {name} at {home / name}, got {found}"
            )


_check_own_packages()
