"""What MatConvNet has to be told of a network beside its weights."""

from __future__ import annotations

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.configs.layer_specs import Convolution, Dense, Normalization, Pooling


def layer_fields(architecture: Architecture) -> dict[str, dict[str, object]]:
    """The fields of each layer, by name, that :func:`weights.matconvnet.write_mat` writes so that
    ``vl_simplenn`` computes the network.

    None of a network that MatConvNet lacks layers for, such as ``krizhevsky``: its normalization
    stays within a tower.
    """
    known = (Convolution, Pooling, Dense, Normalization)
    specs = [spec for spec in architecture.layers if isinstance(spec, known)]
    named = {spec.name for spec in specs}
    others = set(architecture.layer_names) - named - {"fc8", "prob"}
    if others or any(isinstance(spec, Normalization) and spec.groups > 1 for spec in specs):
        return {}
    return {spec.name: _fields(spec) for spec in specs}


def _fields(spec: Convolution | Pooling | Dense | Normalization) -> dict[str, object]:
    if isinstance(spec, Dense):
        return {"relu": True}
    if isinstance(spec, Normalization):
        window = 2.0 * spec.depth_radius + 1
        return {"param": [window, spec.bias, spec.alpha, spec.beta]}
    convolution = isinstance(spec, Convolution)
    padding = float(spec.padding) if convolution else 0.0
    beyond = padding + spec.stride - 1 if spec.ceil_mode else padding
    pooling = {} if convolution else {"method": "max", "pool": [float(spec.size)] * 2}
    return {
        "stride": [float(spec.stride)] * 2,
        "pad": [padding, beyond, padding, beyond],  # top, bottom, left, right
        "relu": spec.activated,
        **pooling,
    }
