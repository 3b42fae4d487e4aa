"""Writes the checkpoint that ``tests/weights/checkpoint_golden.py`` holds: run with PyTorch.

``python -m tests.weights.oracles.make_checkpoint_golden > tests/weights/checkpoint_golden.py``
"""

import argparse
import base64
import collections
import datetime
import io
import pathlib
import textwrap
import types
import zlib

import numpy as np
import torch


class AverageMeter:
    """As of PyTorch's ImageNet example: a class that no reader of the file has."""

    def __init__(self):
        self.sum = 3


def network():
    """conv1 counts from 0, its bias from 100, fc8 from 200, its bias from 300."""
    module = torch.nn.Module()
    module.features = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2)))
    module.classifier = torch.nn.Sequential(*[torch.nn.Identity()] * 6, torch.nn.Linear(3, 2))
    for start, parameter in zip((0, 100, 200, 300), module.parameters(), strict=True):
        parameter.data = torch.arange(float(parameter.numel())).reshape(parameter.shape) + start
    return module


def trained_optimizer(module):
    """State dicts of an optimizer after one step and of its scheduler."""
    copy = [torch.nn.Parameter(parameter.detach().clone()) for parameter in module.parameters()]
    optimizer = torch.optim.SGD(copy, 0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for parameter in copy:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer.state_dict(), scheduler.state_dict()


def checkpoint():
    """A state dict, twice wrapped, beside everything that people store."""
    module = network()
    optimizer, scheduler = trained_optimizer(module)
    return {
        "epoch": 90,
        "arch": "alexnet",
        "best_acc1": np.float64(56.5),
        "curve": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/imagenet"), ids=(1, 2)),
        "optimizer": optimizer,
        "scheduler": scheduler,
        "rng": torch.ByteTensor([1, 2, 3]),
        "step": torch.tensor(5),
        "mask": torch.tensor([True]),
        "wave": torch.zeros(2, dtype=torch.complex64),
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "when": datetime.datetime(2012, 12, 3),
        "seen": {1, 2},
        "counts": collections.Counter("aab"),
        "per": collections.defaultdict(list, a=[1]),
        "by_key": {("a", 1): 2, None: 3, 1.5: 4, AverageMeter: 5},
        "meter": AverageMeter(),
        "names": types.SimpleNamespace(a=1),
        "note": "n" * 1000,
        "model_state": {"model": module.state_dict()},
        "complex": 1 + 2j,
        "buffer": bytearray(b"abc"),
        "raw": b"abc",
    }


def encoded(zipped):
    """The file as text: compressed, in base 64."""
    file = io.BytesIO()
    torch.save(checkpoint(), file, _use_new_zipfile_serialization=zipped)
    return base64.b64encode(zlib.compress(file.getvalue(), 9)).decode()


if __name__ == "__main__":
    print(f'"""By make_checkpoint_golden.py and PyTorch {torch.__version__}."""\n')
    for name in ("ZIP", "LEGACY"):
        print(f"{name} = (")
        for line in textwrap.wrap(encoded(name == "ZIP"), 92):
            print(f'    "{line}"')
        print(")")
