"""AlexNet in plain torch.nn, for the .pth files that ``alexnet-keras weights convert`` writes; a
copy of this file is enough: ``AlexNet(torch.load("mine.pth", weights_only=True)).eval()``. Layers
output what Keras's of their names do. For logits instead of probabilities, ``del model.prob``.
"""

import torch
from torch import nn

NORMS = {"alexnet": (1e-4, 1), "caffenet": (1e-4, 1), "paper": (5e-4, 2), "krizhevsky": (1e-4, 2)}
REST = "conv3 conv4 conv5 pool5 flatten fc6 drop6 fc7 drop7 fc8 prob"


class Conv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class Dense(nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()


class TowerNorm(nn.LocalResponseNorm):
    def forward(self, x):  # never across the border between the towers
        return super().forward(x.unflatten(1, (2, -1)).flatten(0, 1)).reshape(x.shape)


class ChannelNorm(nn.Module):
    def forward(self, x):  # each channel by itself, over 5x5 pixels
        return x / (1 + 0.001 * nn.functional.avg_pool2d(x.square(), 5, 1, 2)) ** 0.75


class Halve(nn.Module):  # dropout as in 2012
    def forward(self, x):
        return x * (torch.rand_like(x) < 0.5) if self.training else x / 2


class AlexNet(nn.Sequential):
    def __init__(self, state, variant=None):
        super().__init__()
        variant = variant or state._metadata["alexnet_keras"]["variant"]
        old = variant == "krizhevsky"  # its ReLU is behind pool1 and pool5, not conv1 and conv5
        conv, norm = (nn.Conv2d, TowerNorm) if old else (Conv, nn.LocalResponseNorm)
        a, b, c, d, e, f, g, h = (len(state[name]) for name in sorted(state) if "bias" in name)
        layers = {"pad1": nn.ZeroPad2d((0, 3, 0, 3)), "cnorm2": ChannelNorm()} if old else {}
        layers |= {f"norm{i}": norm(5, NORMS[variant][0], k=NORMS[variant][1]) for i in (1, 2)}
        layers |= {"conv1": conv(3, a, 11, 4), "conv2": Conv(a, b, 5, padding=2, groups=2)}
        layers |= {"conv3": Conv(b, c, 3, padding=1), "conv4": Conv(c, d, 3, padding=1, groups=2)}
        layers |= {"conv5": conv(d, e, 3, padding=1, groups=2), "flatten": nn.Flatten()}
        for i in (1, 2, 5):
            layers[f"pool{i}"] = nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=old), nn.ReLU())
        layers |= {"fc6": Dense(state["fc6.weight"].shape[1], f), "fc7": Dense(f, g)}
        layers |= {"fc8": nn.Linear(g, h), "prob": nn.Softmax(1)}
        layers |= {f"drop{i}": Halve() if old else nn.Dropout() for i in (6, 7)}
        start = "pad1 conv1 norm1 pool1 conv2 norm2 cnorm2 pool2"
        if variant == "caffenet":
            start = "conv1 pool1 norm1 conv2 pool2 norm2"
        for name in filter(layers.get, f"{start} {REST}".split()):
            self.add_module(name, layers[name])
        self.load_state_dict(state, strict=True)
