"""The groups of options that several commands share, but for the recipe's."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.option_fields import option


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set, and how it is read."""

    data: str = option("demo", "Data set.", metavar="demo|demo-new|PATH", or_images=True)
    layout: str | None = option(
        None,
        "Layout of the data set.  [default: detected]",
        flag="--format",
        choices=("coco", "imagenet", "folder", "images", "list", "table", "array"),
    )
    classes: tuple[str, ...] = option(
        (), "COCO: use only these classes (repeatable).", metavar="NAME"
    )
    min_size: float | None = option(
        None, "COCO: minimum length of a box's shorter side, in pixels.  [default: 32]"
    )
    context: float | None = option(
        None, "COCO: margin added on each side of a box, as a fraction of it.  [default: 0.1]"
    )
    square: bool | None = option(
        None, "COCO: cut out square regions, or the boxes as they are.  [default: square]"
    )
    num_threads: int = option(
        2, "Threads that load images.", flag="--threads", minimum=1, metavar="N", changeable=True
    )


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Which images of a folder."""

    recursive: bool = option(
        False, "All images in a folder and in the folders in it, without classes."
    )


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """The network variant."""

    variant: str | None = option(None, "Network variant.", choices=tuple(VARIANTS))


@dataclass(frozen=True, kw_only=True)
class PartialOptions(VariantOptions):
    """What a weight file may not say: its variant, mean image and kernel order; and whether it
    may lack layers.
    """

    partial: bool = option(False, "Accept weights with missing layers.")
    mean: str | None = option(
        None,
        "Mean image that the network of a weight file expects to be subtracted: a file or a run.  "
        "[default: a mean colour]",
        metavar="FILE|RUN",
    )
    kernel_order: str | None = option(
        None,
        "Order of kernels in an .h5 file of Keras 1 or 2 that does not record its backend.",
        choices=("theano", "tensorflow"),
    )


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(PartialOptions):
    """Weights to start from."""

    weights: str | None = option(
        None,
        "demo, published weights by name, a weight file, a run, or untrained ones: random:SEED.  "
        "[default: demo on demonstration data, else caffe]",
        metavar="NAME|PATH|RUN",
    )


@dataclass(frozen=True, kw_only=True)
class PreprocessingOptions:
    """Another resize and crop than those that belong to the weights."""

    resize: str | None = option(
        None,
        "Resize both sides (warp), the shorter side, or the whole image to fit a square (pad); "
        "or not at all.  [default: as the weights expect]",
        choices=("warp", "short_side", "pad", "none"),
    )
    crop: str | None = option(
        None,
        "Side of the central square that is the input, or none for the whole resized image.  "
        "[default: as the weights expect]",
        metavar="N|none",
        or_number=True,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(VariantOptions):
    """The network that is trained from initial weights."""

    width: float | None = option(
        None,
        "Multiplies filters and units.  [default: 0.25 and 0.125 on demonstration data, else 1]",
    )


@dataclass(frozen=True, kw_only=True)
class TrainFromOptions(WeightsOptions):
    """Weights to start from, and the layers to fine-tune."""

    train_from: str = option(
        "fc6", "First layer to fine-tune; the layers below it are frozen.", metavar="LAYER"
    )


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a run is executed, and where it is written."""

    seed: int = option(0, "Random seed.", minimum=0, maximum=2**31 - 1)
    accumulate: int = option(
        1,
        "Split each batch into N parts and accumulate their gradients, to fit in limited memory.",
        minimum=1,
        metavar="N",
        changeable=True,
    )
    precision: str = option(
        "float32",
        "Keras dtype policy; weights stay float32.",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
    )
    deterministic: bool = option(
        False, "Deterministic operations on a GPU too; slower there. Holds for the whole process."
    )
    direct_convolution: bool = option(
        False,
        "Without Winograd's algorithm for 3x3 convolutions, which is faster on a CPU and the same "
        "up to rounding.",
    )
    strategy: str = option(
        "auto",
        "One device, all GPUs (mirrored) or several machines (docs/distributed.md).",
        choices=("auto", "one", "mirrored", "multiworker"),
        changeable=True,
    )
    worker_timeout: float = option(
        300.0, "Time to wait for another worker.", minimum=1, metavar="SECONDS", changeable=True
    )
    save_every: float = option(
        60.0, "Time between checkpoints.", minimum=0, metavar="SECONDS", changeable=True
    )
    keep: int = option(
        2, "Recent checkpoints to keep, besides the best.", minimum=1, metavar="N", changeable=True
    )
    tensorboard: bool = option(
        False,
        "Also write scalars and histograms into the run's tensorboard folder.",
        changeable=True,
    )
    output: str | None = option(None, "Run folder.  [default: runs/<mode>-<n>]", metavar="FOLDER")
    overwrite: bool = option(False, "Replace existing files.")
    resume: str | None = option(
        None,
        "Resume a run with its own options; docs/usage.md lists what may change.",
        metavar="RUN",
    )
