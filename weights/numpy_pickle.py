"""``bvlc_alexnet.npy`` and its kind: a dictionary of arrays that Python 2 pickled into a ``.npy``
file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.arrays import is_shape, read_npy_header, to_canonical, view_array
from weights.canonical import WeightSet
from weights.errors import WeightsError
from weights.memory_map import map_file
from weights.restricted_pickle import Buildable, Global, RestrictedUnpickler

_NUMBERS = ("f2", "f4", "f8")
_OBJECTS = ("O", "O4", "O8")


def read_npy(path: Path) -> WeightSet:
    """Weights of a pickled ``.npy``, in canonical form as float32; what the file holds so already
    is a view of it.

    The file is a 0-dimensional object array around ``{"conv1": [kernel, bias], ...}`` or, as
    caffe-tensorflow writes it, ``{"conv1": {"weights": kernel, "biases": bias}, ...}``: kernels
    (height, width, in / groups, out) or (in, out), fc6's rows in height, width, channel order,
    float16, float32 or float64 of either byte order, pickled by protocol 0 to 4. Runs nothing that
    the file names. Raises ``WeightsError``.
    """
    path = Path(path)
    data = memoryview(map_file(path))
    shape, _, dtype, start = read_npy_header(data, str(path))
    if shape != () or dtype.char != "O":
        raise WeightsError(
            f"{path}: expected a pickled dictionary of layers (dtype O, shape ()), got an array "
            f"of dtype {dtype.str[:20]!r} and shape {shape}"
        )
    array = RestrictedUnpickler(data, path, _ALLOWED, position=start).load()
    layers = array.value if type(array) is _Array else None
    if type(layers) is not dict or not all(type(layer) is str for layer in layers):
        raise WeightsError(
            f"{path}: pickle: expected a dictionary of layers, by name, got something else"
        )
    found = {
        layer: _parameters(parameters, f"{path}: {layer[:80]!r}")
        for layer, parameters in layers.items()
    }
    return WeightSet(to_canonical(found, path, len(data)), path, "npy")


def _parameters(parameters: object, place: str) -> dict[str, np.ndarray]:
    if type(parameters) is dict and set(parameters) == {"weights", "biases"}:
        parameters = [parameters["weights"], parameters["biases"]]
    if type(parameters) not in (list, tuple) or len(parameters) != 2:
        raise WeightsError(
            f"{place}: expected [kernel, bias] or a dictionary of weights and biases, got another "
            f"{type(parameters).__name__}"
        )
    arrays = [parameter.value if type(parameter) is _Array else None for parameter in parameters]
    if not all(isinstance(array, np.ndarray) for array in arrays):
        raise WeightsError(
            f"{place}: expected two arrays of floating-point numbers, got something else"
        )
    return dict(zip(("kernel", "bias"), arrays, strict=True))


class _Dtype(Buildable):
    """What stands for ``numpy.dtype``; the byte order comes with its state."""

    def __init__(self, code: object, align: object = False, copy: object = True):
        if type(code) is not str or code.lstrip("<>=|") not in _NUMBERS + _OBJECTS:
            # Not the text of any other type: nested tuples that share parts have endless ones.
            found = repr(code[:20]) if type(code) is str else type(code).__name__
            raise ValueError(f"expected dtype f2, f4, f8 or O, got {found}")
        self.code = code

    def set_state(self, state: object) -> None:
        if (
            type(state) is not tuple
            or len(state) < 2
            or type(state[1]) is not str
            or state[1] not in tuple("<>=|")
        ):
            raise ValueError("expected a dtype's state with its byte order")
        self.code = state[1] + self.code.lstrip("<>=|")


class _Array(Buildable):
    """What stands for ``numpy.ndarray``: ``value`` is a view of the file or, of an object array,
    its one object.
    """

    def __init__(self, kind: object = None, shape: object = (), typecode: object = "b"):
        self.value = None

    def set_state(self, state: object) -> None:
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("expected an array's state: version, shape, dtype, order, data")
        _, shape, dtype, fortran, data = state
        if not is_shape(shape) or type(dtype) is not _Dtype or type(fortran) not in (bool, int):
            raise ValueError("expected an array's shape, dtype and order, got something else")
        if dtype.code.lstrip("<>=|") in _OBJECTS:
            if shape != () or type(data) is not list or len(data) != 1:
                raise ValueError("expected an object array of shape () with one object")
            self.value = data[0]
        elif type(data) is str:
            self.value = view_array(
                memoryview(data.encode("latin-1")), np.dtype(dtype.code), shape, bool(fortran)
            )
        elif type(data) is memoryview:
            self.value = view_array(data, np.dtype(dtype.code), shape, bool(fortran))
        else:
            raise ValueError(f"expected an array's bytes, got {type(data).__name__}")


_ALLOWED = {"numpy ndarray": Global("ndarray"), "numpy dtype": Global("dtype", _Dtype)} | {
    f"{module}.multiarray _reconstruct": Global("_reconstruct", _Array)
    for module in ("numpy.core", "numpy._core")
}
