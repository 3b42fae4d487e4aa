"""PyTorch files for tests, both encodings, opcode by opcode as ``torch.save`` writes them, without
PyTorch.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import numpy as np

from tests.weights.npy_files import integer, shape_tuple

STORAGES = {
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
}
LEGACY_START = b"".join(
    pickle.dumps(value, 2)
    for value in (
        0x1950A86A20F9469CFC6C,
        1001,
        {
            "protocol_version": 1001,
            "little_endian": True,
            "type_sizes": {"short": 2, "int": 4, "long": 4},
        },
    )
)


def write_pth(path, state_dict, legacy=False):
    """``torch.save(state_dict, path)`` of ``{name: array}``: float16, bfloat16 (of ml_dtypes),
    float32 or float64.
    """
    tensors = {
        name: tensor(STORAGES[array.dtype.name], str(index), array.size, shape=array.shape)
        for index, (name, array) in enumerate(state_dict.items())
    }
    pickled, raw = (
        ordered_dict(tensors, legacy),
        [np.ascontiguousarray(array) for array in state_dict.values()],
    )
    with open(path, "wb") as file:
        if legacy:
            file.write(legacy_file(pickled, [str(index) for index in range(len(raw))]))
            for array in raw:
                file.write(struct.pack("<q", array.size) + array.tobytes())
        else:
            write_zip(
                file,
                {
                    "data.pkl": pickled,
                    "byteorder": b"little",
                    **{f"data/{index}": array.tobytes() for index, array in enumerate(raw)},
                },
            )
    return path


def write_zip(file, members, root="archive/", **options):
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(root + name, content)


def zip_of(members, root="archive/", **options):
    """The bytes of a zip archive, members stored unless ``compression`` says otherwise."""
    file = io.BytesIO()
    write_zip(file, members, root, **options)
    return file.getvalue()


def zip_around(pickled, storage=bytes(16)):
    """A ``.pth`` of the zip encoding with this pickle and one storage, key 0."""
    return zip_of({"data.pkl": pickled, "byteorder": b"little", "data/0": storage})


def legacy_file(pickled, keys):
    return LEGACY_START + pickled + pickle.dumps(keys, 2)


def legacy_around(pickled, storage=bytes(16)):
    """A ``.pth`` of the legacy encoding with this pickle and one storage of four float32, key
    0.
    """
    return legacy_file(pickled, ["0"]) + struct.pack("<q", len(storage) // 4) + storage


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def persistent_id(kind, key, numel, legacy=False):
    return (
        b"("
        + text("storage")
        + b"ctorch\n"
        + kind.encode()
        + b"\n"
        + text(key)
        + text("cpu")
        + integer(numel)
        + b"N" * legacy
        + b"tQ"
    )


def tensor(kind="FloatStorage", key="0", numel=4, offset=0, shape=(2, 2), strides=None):
    """The opcodes of one tensor; a function of the encoding, whose persistent ids differ."""
    if strides is None:
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]

    def opcodes(legacy):
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n("
            + persistent_id(kind, key, numel, legacy)
            + integer(offset)
            + shape_tuple(shape)
            + shape_tuple(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR"
        )

    return opcodes


def ordered_dict(tensors, legacy=False):
    """A state dict, its ``_metadata`` set as modules do."""
    items = b"".join(text(name) + opcodes(legacy) for name, opcodes in tensors.items())
    metadata = b"}" + text("_metadata") + b"ccollections\nOrderedDict\n)Rsb"
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u" + metadata + b"."
