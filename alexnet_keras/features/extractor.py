"""Feature extraction: a model that returns the activations of any layer, and files to append them
to.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.data.batches import Batch
from alexnet_keras.errors import ConfigurationError, RunError

Sink = Callable[[np.ndarray], None]


def feature_extractor(model: keras.Model, layers: str | Iterable[str]) -> keras.Model:
    """A ``keras.Model`` from images to ``{layer: activations}``, for any layer names of ``model``.

    The inputs are those of ``model``, (batch, height, width, 3) float32; the outputs have the
    shapes and dtypes of the layers. The outputs of conv1-conv5, fc6 and fc7 include their
    activation; those of fc8 are logits. Raises ``ConfigurationError`` that lists the valid names
    for an unknown one.

    Example::

        extractor = feature_extractor(AlexNet(weights="caffe"), ["pool5", "fc7"])
        extractor(preprocess_input(images))["pool5"].shape  # (batch, 6, 6, 256)
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    valid = [
        layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    unknown = [name for name in names if name not in valid]
    if unknown or not names:
        raise ConfigurationError(
            f"layer: expected one of {', '.join(valid)}; got {', '.join(unknown) or 'none'}"
        )
    return keras.Model(model.input, {name: model.get_layer(name).output for name in names})


def extract(
    extractor: keras.Model,
    batches: Iterable[Batch],
    sinks: Mapping[str, Sink],
    on_batch: Callable[[int], None] = lambda rows: None,
) -> None:
    """Append each sample's activations to its layer's sink, in order, in constant memory.

    The rows of unreadable samples (weight 0, but not padding) are NaN; padding is dropped.
    """
    step = tf.function(lambda images: extractor(images, training=False), autograph=False)
    written = 0
    for batch in batches:
        rows = batch.rows.numpy()
        real = int(rows[-1]) + 1 - written if rows[-1] >= written else 0
        unreadable = batch.weights.numpy()[:real] == 0
        for name, activations in step(batch.images).items():
            block = activations.numpy()[:real].astype(np.float32, copy=False)
            block[unreadable] = np.nan
            sinks[name](block)
        written += real
        on_batch(real)


@contextmanager
def feature_files(
    paths: Mapping[str, Path], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, Sink]]:
    """Open a file for each layer (``.npy``, or data sets named by layer in one ``.h5``) to append
    blocks of float32 rows.

    The files replace existing ones only when the ``with`` block ends without an error and all rows
    were written. ``shapes``: (rows, ...) of each layer's array.
    """
    files = tuple(dict.fromkeys(paths.values()))
    with atomic_write(*files) as partial, ExitStack() as stack:
        if files[0].suffix == ".h5":
            target = stack.enter_context(_Hdf5Target(partial[0], "w+"))
            file = stack.enter_context(h5py.File(target, "w"))
            writers = {
                name: _H5Rows(file.create_dataset(name, shape, np.float32), target)
                for name, shape in shapes.items()
            }
        else:
            opened = {
                path: stack.enter_context(open(name, "wb"))
                for path, name in zip(files, partial, strict=True)
            }
            writers = {name: _NpyRows(opened[path], shapes[name]) for name, path in paths.items()}
        yield {name: writer.append for name, writer in writers.items()}
        for name, writer in writers.items():
            if writer.rows != shapes[name][0]:
                raise RunError(
                    f"{paths[name]}: expected {shapes[name][0]} rows of {name}, got {writer.rows}"
                )


class _NpyRows:
    """A ``.npy`` written sequentially: on a full disk a write raises an error, while a memory map
    would crash.
    """

    def __init__(self, file, shape: tuple[int, ...]):
        self.file = file
        self.rows = 0
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )

    def append(self, block: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(block, "<f4").data)
        self.rows += len(block)


class _H5Rows:
    def __init__(self, dataset, target: _Hdf5Target):
        self.dataset = dataset
        self.target = target
        self.rows = 0

    def append(self, block: np.ndarray) -> None:
        self.dataset[self.rows : self.rows + len(block)] = block
        self.target.raise_failure()
        self.rows += len(block)


class _Hdf5Target(io.FileIO):
    """The file that HDF5 writes to. An error of ``write``, such as a full disk, would crash HDF5,
    so it is stored and raised by :meth:`raise_failure`.
    """

    failure: OSError | None = None

    def write(self, data) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.failure is None:
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.failure = error
        return size

    def raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        super().close()
        self.raise_failure()
