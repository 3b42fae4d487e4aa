"""Every weight file that this project knows by name: what it holds, where it lies, how it is told
from a wrong one.

A JSON file named by the environment variable ``ALEXNET_KERAS_CATALOG`` replaces fields of entries
or adds entries: ``{"caffe": {"mirrors": ["http://mirror.local/bvlc_alexnet.caffemodel"]}}``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.errors import ConfigurationError, WeightsError

OVERRIDE_VARIABLE = "ALEXNET_KERAS_CATALOG"
DIGEST_LENGTHS = {"sha1": 40, "sha256": 64}  # in hexadecimal digits


@dataclass(frozen=True)
class WeightSource:
    """One published file. ``variant`` and ``preprocessing`` are None for what is no network (the
    mean image).

    ``mirrors``: URLs, tried in order. ``digest``: hexadecimal, at least its first eight digits,
    None where nobody publishes one. ``size``: exact, in bytes, None where unknown. ``top1``,
    ``top5``: published accuracy in per cent, measured as ``protocol`` says.
    """

    name: str
    file: str
    mirrors: tuple[str, ...] = ()
    digest_algorithm: str | None = None
    digest: str | None = None
    size: int | None = None
    licence: str = "not stated"
    variant: str | None = None
    preprocessing: Preprocessing | None = None
    top1: float | None = None
    top5: float | None = None
    protocol: str = ""
    classes: int | None = 1000
    notes: str = ""

    def describe_digest(self) -> str:
        """``sha1 9116...``, or that there is none; for messages."""
        return f"{self.digest_algorithm} {self.digest}" if self.digest else "no published digest"


_BERKELEY = "http://dl.caffe.berkeleyvision.org"
_MXNET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/caffe/models/bvlc_alexnet"
_CAFFE_PROTOCOL = "ImageNet validation, image warped to 256x256, centre crop of 227"

PUBLISHED = (
    WeightSource(
        "caffe",
        "bvlc_alexnet.caffemodel",
        (
            f"{_BERKELEY}/bvlc_alexnet.caffemodel",
            "https://nvidia.box.com/shared/static/5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel",
            f"{_MXNET}/bvlc_alexnet.caffemodel",
        ),
        "sha1",
        "9116a64c0fbe4459d18f4bb6b56d647b63920377",
        243_862_414,
        "unrestricted use (BVLC)",
        "alexnet",
        CAFFE_PREPROCESSING,
        57.1,
        80.2,
        _CAFFE_PROTOCOL,
        notes="BVLC AlexNet of 2014, iteration 360,000, trained by Evan Shelhamer; V1 layer "
        "encoding",
    ),
    WeightSource(
        "caffenet",
        "bvlc_reference_caffenet.caffemodel",
        (f"{_BERKELEY}/bvlc_reference_caffenet.caffemodel",),
        "sha1",
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        243_862_418,
        "unrestricted use (BVLC)",
        "caffenet",
        CAFFE_PREPROCESSING,
        57.4,
        80.4,
        _CAFFE_PROTOCOL,
        notes="BVLC reference CaffeNet, iteration 310,000, trained by Jeff Donahue; pools before "
        "it normalizes",
    ),
    WeightSource(
        "tensorflow",
        "bvlc_alexnet.npy",
        # https first: nothing else vouches for a file without a published digest
        (
            "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
            "http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
        ),
        None,
        None,
        243_861_814,
        "not stated; converted from BVLC AlexNet (unrestricted use)",
        "alexnet",
        CAFFE_PREPROCESSING,
        57.1,
        80.2,
        f"{_CAFFE_PROTOCOL}, of the BVLC file that it was converted from",
        notes="Michael Guerzhoy's conversion; its own page publishes no accuracy and no digest",
    ),
    WeightSource(
        "torchvision",
        "alexnet-owt-7be5be79.pth",
        ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
        "sha256",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        244_408_911,
        "BSD-3-Clause",
        "owt",
        TORCHVISION_PREPROCESSING,
        56.522,
        79.066,
        "ImageNet validation, short side resized to 256 with antialiasing, centre crop of 224",
        notes="AlexNet_Weights.IMAGENET1K_V1; the first eight digits of the digest are in the "
        "published file name",
    ),
    WeightSource(
        "onnx",
        "bvlcalexnet-12.onnx",
        (
            "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/classification/alexnet/"
            "model/bvlcalexnet-12.onnx",
        ),
        "sha256",
        "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
        243_863_787,
        "BSD-3-Clause",
        "alexnet",
        CAFFE_PREPROCESSING,
        54.80,
        78.23,
        "ImageNet validation, of the file's own network: input 224, asymmetric pooling",
        notes="converted from BVLC AlexNet; its weights run here at 227 with Caffe's pooling, "
        "where Caffe's own "
        "57.1 / 80.2 are the figures to expect",
    ),
    WeightSource(
        "demo",
        "demo.keras",
        licence="that of this package",
        variant="alexnet",
        preprocessing=CAFFE_PREPROCESSING,
        classes=9,
        notes="comes with the package: a narrow network that knows the demonstration's shapes "
        "alone",
    ),
    WeightSource(
        "imagenet_mean",
        "imagenet_mean.binaryproto",
        (
            f"{_MXNET}/imagenet_mean.binaryproto",
            "https://github.com/Robert0812/deepsaldet/raw/master/caffe-sal/data/ilsvrc12/imagenet_mean.binaryproto",
        ),
        "sha1",
        "63e4652e656abc1e87b7a8339a7e02fca63a2c0c",
        licence="unrestricted use (BVLC)",
        classes=None,
        notes="mean image, 3x256x256, BGR; BVLC's own copy is inside "
        f"{_BERKELEY}/caffe_ilsvrc12.tar.gz",
    ),
)


def catalog() -> dict[str, WeightSource]:
    """All known sources by name, the override file applied.

    Replacing ``digest`` forgets ``size``, and replacing ``variant`` forgets ``preprocessing``,
    unless the same entry gives them too: both describe the file or network that was there before.
    Raises ``WeightsError`` naming the override file and the field that does not fit.
    """
    sources = {source.name: source for source in PUBLISHED}
    override = os.environ.get(OVERRIDE_VARIABLE)
    if override:
        for name, changes in _read_override(Path(override)).items():
            sources[name] = _changed(sources.get(name), name, changes, f"{override}: {name}")
        _check_unique_files(sources, override)
    return sources


def source(name: str) -> WeightSource:
    """The catalogue's entry of this name. Raises ``WeightsError`` listing the valid names."""
    sources = catalog()
    if name not in sources:
        raise WeightsError(
            f"{name!r} is not a known source of weights; expected one of {', '.join(sources)}"
        )
    return sources[name]


def _read_override(path: Path) -> dict:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{path}: the catalogue named by {OVERRIDE_VARIABLE} cannot be read: {error.strerror}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: expected JSON, got what cannot be read as such: {error}"
        ) from None
    if not isinstance(entries, dict):
        raise WeightsError(
            f"{path}: expected an object of entries by name, got {reprlib.repr(entries)}"
        )
    return entries


def _changed(old: WeightSource | None, name: str, changes: object, place: str) -> WeightSource:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise WeightsError(f"{place}: expected a name of letters, digits, dots and dashes")
    changes = dict(_checked(changes, _FIELDS, place))
    if old is None and "file" not in changes:
        raise WeightsError(f"{place}.file: expected the file name of this new entry, got none")
    old = old or WeightSource(name, changes["file"])
    if "digest" in changes:
        changes.setdefault("size", None)
    if changes.get("variant", old.variant) != old.variant:
        changes.setdefault("preprocessing", {})
    if changes.get("preprocessing") is not None:
        changes["preprocessing"] = _changed_preprocessing(old, changes, f"{place}.preprocessing")
    changes["mirrors"] = tuple(changes.get("mirrors", old.mirrors))
    new = dataclasses.replace(old, **changes)
    if new.digest and len(new.digest) > DIGEST_LENGTHS.get(new.digest_algorithm, 0):
        raise WeightsError(
            f"{place}.digest_algorithm: expected the one of sha1 and sha256 that gives "
            f"{new.digest}, "
            f"got {new.digest_algorithm}"
        )
    return new


def _changed_preprocessing(old: WeightSource, changes: dict, place: str) -> Preprocessing | None:
    """The fields given, over those of the entry, or of the variant where that changes; None for no
    network.
    """
    variant = changes.get("variant", old.variant)
    base = old.preprocessing if variant == old.variant else PREPROCESSING.get(variant)
    values = _checked(changes["preprocessing"], _PREPROCESSING_FIELDS, place)
    if base is None:
        return None
    try:
        return Preprocessing.from_dict({**dataclasses.asdict(base), **values})
    except ConfigurationError as error:
        raise WeightsError(f"{place}: {error}") from None


def _check_unique_files(sources: dict[str, WeightSource], override: str) -> None:
    owners: dict[str, str] = {}
    for entry in sources.values():
        owner = owners.setdefault(entry.file.lower(), entry.name)
        if owner != entry.name:
            raise WeightsError(
                f"{override}: {entry.name}.file: expected a name that no other entry has, got "
                f"{entry.file}, which is the file of {owner}"
            )


_Check = tuple[Callable[[object], bool], str]


def _checked(values: object, fields: dict[str, _Check], place: str) -> dict:
    if not isinstance(values, dict):
        raise WeightsError(f"{place}: expected an object of fields, got {reprlib.repr(values)}")
    for field, value in values.items():
        if field not in fields:
            raise WeightsError(
                f"{place}: expected fields among {', '.join(fields)}, got {reprlib.repr(field)}"
            )
        accepts, expected = fields[field]
        if not accepts(value):
            raise WeightsError(f"{place}.{field}: expected {expected}, got {reprlib.repr(value)}")
    return values


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _optional(accepts: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or accepts(value)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < float("inf")
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_triple(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))


_is_url = _matches(r"https?://[!-~]+")
_TEXT = (lambda value: isinstance(value, str) and value.isprintable(), "one line of text")
_PERCENT = (
    _optional(lambda value: _is_number(value) and 0 <= value <= 100),
    "a percentage or null",
)
_COUNT = (_optional(_is_count), "a whole number above 0, or null")

_FIELDS: dict[str, _Check] = {
    "file": (_matches(r"[A-Za-z0-9][\w.+-]*"), "a plain file name"),
    "mirrors": (
        lambda value: isinstance(value, list) and all(map(_is_url, value)),
        "a list of http(s) URLs",
    ),
    "digest_algorithm": (
        lambda value: value is None or value in list(DIGEST_LENGTHS),
        "sha1, sha256 or null",
    ),
    "digest": (
        _optional(_matches("[0-9a-f]{8,64}")),
        "8 to 64 lower-case hexadecimal digits or null",
    ),
    "size": _COUNT,
    "licence": _TEXT,
    "variant": (
        lambda value: value is None or value in list(VARIANTS),
        f"{', '.join(VARIANTS)} or null",
    ),
    "preprocessing": (
        _optional(lambda value: isinstance(value, dict)),
        "an object of fields or null",
    ),
    "top1": _PERCENT,
    "top5": _PERCENT,
    "protocol": _TEXT,
    "classes": _COUNT,
    "notes": _TEXT,
}
_PREPROCESSING_FIELDS: dict[str, _Check] = {
    "resize": _TEXT,
    "resize_to": (_is_count, "a whole number above 0"),
    "crop": (_is_count, "a whole number above 0"),
    "antialias": (lambda value: isinstance(value, bool), "true or false"),
    "channel_order": _TEXT,
    "mean": (_is_triple, "three numbers"),
    "std": (lambda value: _is_triple(value) and min(value) > 0, "three numbers above 0"),
}
