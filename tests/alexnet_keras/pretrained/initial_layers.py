"""Layers at initial values, drawn with NumPy as each initializer draws them."""

import numpy as np

from alexnet_keras.configs.architecture import VARIANTS

INITIALIZERS = ("normal", "he", "torch")


def initial_layers(variant, width=0.05, kernels="normal", seed=0, classes=10, positions=4):
    """Canonical layers of a variant; fc6 reads ``positions`` positions of conv5."""
    generator = np.random.default_rng(seed)
    layers, channels, flat = {}, 3, positions
    for spec in VARIANTS[variant].with_width(width).layers:
        if hasattr(spec, "filters"):
            shape = (spec.kernel, spec.kernel, channels // spec.groups, spec.filters)
        elif hasattr(spec, "units"):
            shape, flat = (channels * flat, spec.units), 1
        else:
            continue
        layers[spec.name], channels = shape, shape[-1]
    layers["fc8"] = (channels, classes)
    return {name: _initial(generator, shape, kernels) for name, shape in layers.items()}


def _initial(generator, shape, kernels):
    fan_in = int(np.prod(shape[:-1]))
    if kernels == "torch":
        limit = np.float32(fan_in**-0.5)
        return tuple(
            generator.uniform(-limit, limit, s).astype(np.float32) for s in (shape, shape[-1:])
        )
    kernel = generator.standard_normal(shape, np.float32)
    if kernels == "he":  # truncated: what lies outside is drawn again
        while (outside := np.abs(kernel) > 2).any():
            kernel[outside] = generator.standard_normal(int(outside.sum()), np.float32)
        kernel *= np.float32((2 / fan_in) ** 0.5 / 0.8796)
    else:
        kernel *= np.float32(0.01)
    return kernel, np.full(shape[-1], 0.1, np.float32)


def shuffled(layers, *names, seed=0):
    """``layers`` with the kernel values of the named ones in random order, or of all."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.permutation(kernel.ravel()).reshape(kernel.shape)
            if name in (names or layers)
            else kernel,
            bias,
        )
        for name, (kernel, bias) in layers.items()
    }
