"""PyTorch with channels last in memory, the layout that is fastest on CPUs."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Normalization,
    Pooling,
)
from benchmarks.peers import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Network, Trainer
from weights.canonical import Layers, from_channels_first, to_channels_first

sys.modules.setdefault(
    "triton", None
)  # not needed on a CPU, and it crashes once TensorFlow is loaded


def module_of(architecture: Architecture, weights: Layers) -> nn.Sequential:
    """The network as a module whose layers have the public names."""
    layers = OrderedDict()
    arrays = to_channels_first(weights, Path("random"))
    for layer in architecture.layers:
        layers[layer.name] = _layer(layer, arrays)
        if isinstance(layer, Convolution | Dense):
            layers[f"relu_{layer.name}"] = nn.ReLU(inplace=True)
    layers[FINAL_LAYER] = _layer(Dense(FINAL_LAYER, len(arrays[FINAL_LAYER][1])), arrays)
    module = nn.Sequential(layers)
    with torch.no_grad():
        for name, (kernel, bias) in arrays.items():
            layers[name].weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            layers[name].bias.copy_(torch.from_numpy(bias))
    return module.to(memory_format=torch.channels_last)


def _layer(layer, arrays: Layers) -> nn.Module:
    match layer:
        case Convolution(name, filters, kernel, stride, padding, groups):
            return nn.Conv2d(
                arrays[name][0].shape[1] * groups, filters, kernel, stride, padding, groups=groups
            )
        case Normalization(_, radius, bias, alpha, beta):
            window = 2 * radius + 1
            return nn.LocalResponseNorm(
                window, alpha * window, beta, bias
            )  # which divides alpha by the window
        case Pooling(_, size, stride):
            return nn.MaxPool2d(size, stride)
        case Flatten():
            return nn.Flatten()
        case Dense(name, units):
            return nn.Linear(arrays[name][0].shape[1], units)
        case Dropout(_, rate):
            return nn.Dropout(rate)


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    torch.set_num_threads(threads)
    module = module_of(architecture, weights).eval()

    def infer(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return module(images).numpy()

    return Network(_channels_last, infer)


def trainer(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Trainer:
    torch.set_num_threads(threads)
    module = module_of(architecture, weights).train()
    kernels = [value for name, value in module.named_parameters() if name.endswith("weight")]
    biases = [value for name, value in module.named_parameters() if name.endswith("bias")]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": biases}],
        LEARNING_RATE,
        MOMENTUM,
        fused=True,
    )

    def step(batch: tuple[torch.Tensor, torch.Tensor]) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(module(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    def kernels_of_module() -> dict[str, np.ndarray]:
        layers = {
            name: (module.get_submodule(name).weight.detach().numpy(), np.zeros(1))
            for name in weights
        }
        return {
            name: kernel.copy()
            for name, (kernel, _) in from_channels_first(layers, Path("PyTorch")).items()
        }

    return Trainer(
        lambda images, labels: (_channels_last(images), torch.from_numpy(labels).long()),
        step,
        kernels_of_module,
    )


def _channels_last(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)
