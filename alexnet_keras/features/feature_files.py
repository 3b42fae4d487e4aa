"""Files of features, written row by row."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import RunError
from alexnet_keras.features.extraction import Sink


@contextmanager
def open_feature_files(
    paths: Mapping[str, Path],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str = "float32",
) -> Iterator[dict[str, Sink]]:
    """Open a file for each layer (``.npy``, or data sets named by layer in one ``.h5``) to append
    blocks of rows of ``dtype``, ``float32`` or ``float16``.

    The files replace existing ones only when the ``with`` block ends without an error and all rows
    were written. ``shapes``: (rows, ...) of each layer's array.
    """
    files = tuple(dict.fromkeys(paths.values()))
    with atomic_write(*files) as partial, ExitStack() as stack:
        if files[0].suffix == ".h5":
            target = stack.enter_context(_Hdf5Target(partial[0], "w+"))
            file = stack.enter_context(h5py.File(target, "w"))
            writers = {
                name: _H5Rows(file.create_dataset(name, shape, dtype), target)
                for name, shape in shapes.items()
            }
        else:
            opened = {
                path: stack.enter_context(open(name, "wb"))
                for path, name in zip(files, partial, strict=True)
            }
            writers = {
                name: _NpyRows(opened[path], shapes[name], dtype) for name, path in paths.items()
            }
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

    def __init__(self, file, shape: tuple[int, ...], dtype: str):
        self.file = file
        self.rows = 0
        self.dtype = np.dtype(dtype).newbyteorder("<")
        np.lib.format.write_array_header_1_0(
            file, {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        )

    def append(self, block: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(block, self.dtype).data)
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
