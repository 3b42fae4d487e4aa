"""Activations of torchvision's AlexNet by PyTorch itself, small enough to be kept:
``owt_golden.npz``.

Run in an environment with torch (2.13.0 made the file that is kept), from the root of the project:
``python -m tests.weights.oracles.make_owt_golden``. Weights and images are NumPy's, so that tests
make them again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("owt_golden.npz")
WIDTH, CLASSES, SIZE = 1 / 16, 10, 99
FILTERS = {
    "features.0": (64, 11),
    "features.3": (192, 5),
    "features.6": (384, 3),
    "features.8": (256, 3),
    "features.10": (256, 3),
}
NAMES = {
    "features.1": "conv1",
    "features.2": "pool1",
    "features.4": "conv2",
    "features.5": "pool2",
    "features.7": "conv3",
    "features.9": "conv4",
    "features.11": "conv5",
    "features.12": "pool5",
    "classifier.2": "fc6",
    "classifier.5": "fc7",
    "classifier.6": "fc8",
}


def state_dict(width=WIDTH, classes=CLASSES, size=SIZE):
    """Random weights under torchvision's names, channels first, at He's scale: activations stay of
    one size.
    """
    generator, inputs, state = (
        np.random.RandomState(7),
        3,
        {},
    )  # its stream never changes between versions of NumPy
    shapes = {}
    for name, (filters, kernel) in FILTERS.items():
        shapes[name], inputs = (
            (round(filters * width), inputs, kernel, kernel),
            round(filters * width),
        )
    units = round(4096 * width)
    shapes |= {
        "classifier.1": (units, inputs * pool5_size(size) ** 2),
        "classifier.4": (units, units),
        "classifier.6": (classes, units),
    }
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        state[f"{name}.weight"] = (generator.standard_normal(shape) * scale).astype(np.float32)
        state[f"{name}.bias"] = (generator.standard_normal(shape[0]) * 0.1).astype(np.float32)
    return state


def images(size=SIZE, count=2):
    """(count, 3, size, size) float32, as normalized images are."""
    return np.random.RandomState(8).standard_normal((count, 3, size, size)).astype(np.float32)


def pool5_size(size):
    size = (size + 4 - 11) // 4 + 1
    for _ in range(3):
        size = (size - 3) // 2 + 1
    return size


def network(width=WIDTH, classes=CLASSES, size=None):
    """``torchvision.models.AlexNet`` line by line, with a width; its 6x6 average pooling does
    nothing at 224 pixels.
    """
    from torch import nn

    a, b, c, d, e = (round(filters * width) for filters, _ in FILTERS.values())
    units, side = round(4096 * width), pool5_size(size or 224)
    model = nn.Module()
    model.features = nn.Sequential(
        nn.Conv2d(3, a, kernel_size=11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(a, b, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
        nn.Conv2d(b, c, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(c, d, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(d, e, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2),
    )
    model.avgpool = nn.AdaptiveAvgPool2d((side, side))
    model.classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(e * side * side, units),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(units, units),
        nn.ReLU(),
        nn.Linear(units, classes),
    )
    return model.eval()


def activations(model, batch):
    """``{public layer: activations}``, channels first, convolutions and hidden layers after their
    ReLU.
    """
    import torch

    found, x = {}, torch.from_numpy(batch)
    with torch.no_grad():
        for part in ("features", "avgpool", "classifier"):
            module = getattr(model, part)
            for index, layer in module.named_children() if part != "avgpool" else [("", module)]:
                x = layer(torch.flatten(x, 1) if (part, index) == ("classifier", "0") else x)
                if f"{part}.{index}" in NAMES:
                    found[NAMES[f"{part}.{index}"]] = x.numpy().copy()
    return found


def main():
    import torch

    model = network(size=SIZE)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state_dict().items()})
    np.savez(FILE, **activations(model, images()))


if __name__ == "__main__":
    main()
