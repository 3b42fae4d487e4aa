"""The AlexNet that Keras never had. Names are imported at their first use, so that importing this
costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "AlexNet": "applications",
    "preprocess_input": "applications",
    "decode_predictions": "applications",
    "load_model": "pretrained.loading",
    "load_pretrained": "pretrained.loading",
    "feature_extractor": "features.extractor",
    "Architecture": "configs.architecture",
    "Preprocessing": "configs.preprocessing",
    "AlexNetError": "errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
