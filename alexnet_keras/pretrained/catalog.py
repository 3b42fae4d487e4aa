"""The catalogue of published weights: what they are, and which file holds them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.errors import WeightsError
from weights.published_file import PublishedFile


@dataclass(frozen=True)
class CatalogEntry:
    """Published weights.

    Args:
        name: what ``--weights`` and ``AlexNet(weights=...)`` call them.
        file: the file that holds them.
        licence: its terms.
        variant: the network that they belong to; None for what is no network (the mean image).
        preprocessing: what that network expects of an image; None as above.
        top1: published accuracy in per cent, measured as ``protocol`` says.
        top5: likewise.
        protocol: the data and the crops of the published accuracy.
        classes: outputs of fc8.
        notes: where they come from.
        class_names: what these outputs are called, ``imagenet`` or ``places365``; None where their
            names are not published.
    """

    name: str
    file: PublishedFile
    licence: str = "not stated"
    variant: str | None = None
    preprocessing: Preprocessing | None = None
    top1: float | None = None
    top5: float | None = None
    protocol: str = ""
    classes: int | None = 1000
    notes: str = ""
    class_names: str | None = "imagenet"


_BERKELEY = "http://dl.caffe.berkeleyvision.org"
_MXNET = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/caffe/models/bvlc_alexnet"
_PLACES = "http://places2.csail.mit.edu/models_places365"
_STYLIZED = (
    "https://bitbucket.org/robert_geirhos/texture-vs-shape-pretrained-models/raw/"
    "0008049cd10f74a944c6d5e90d4639927f8620ae"
)
_CAFFE_PROTOCOL = "ImageNet validation, image warped to 256x256, centre crop of 227"

_ENTRIES = (
    CatalogEntry(
        "caffe",
        PublishedFile(
            "bvlc_alexnet.caffemodel",
            (
                f"{_BERKELEY}/bvlc_alexnet.caffemodel",
                "https://nvidia.box.com/shared/static/5j264j7mky11q8emy4q14w3r8hl5v6zh.caffemodel",
                f"{_MXNET}/bvlc_alexnet.caffemodel",
            ),
            "sha1",
            "9116a64c0fbe4459d18f4bb6b56d647b63920377",
            243_862_414,
        ),
        "unrestricted use (BVLC)",
        "alexnet",
        CAFFE_PREPROCESSING,
        57.1,
        80.2,
        _CAFFE_PROTOCOL,
        notes="BVLC AlexNet of 2014, iteration 360,000, trained by Evan Shelhamer; V1 layer "
        "encoding",
    ),
    CatalogEntry(
        "caffenet",
        PublishedFile(
            "bvlc_reference_caffenet.caffemodel",
            (f"{_BERKELEY}/bvlc_reference_caffenet.caffemodel",),
            "sha1",
            "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
            243_862_418,
        ),
        "unrestricted use (BVLC)",
        "caffenet",
        CAFFE_PREPROCESSING,
        57.4,
        80.4,
        _CAFFE_PROTOCOL,
        notes="BVLC reference CaffeNet, iteration 310,000, trained by Jeff Donahue; pools before "
        "it normalizes",
    ),
    CatalogEntry(
        "tensorflow",
        PublishedFile(
            "bvlc_alexnet.npy",
            # https first: without a published digest nothing else protects the download
            (
                "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
                "http://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
            ),
            size=243_861_814,
        ),
        "not stated; converted from BVLC AlexNet (unrestricted use)",
        "alexnet",
        CAFFE_PREPROCESSING,
        57.1,
        80.2,
        f"{_CAFFE_PROTOCOL}, of the BVLC file that it was converted from",
        notes="Michael Guerzhoy's conversion; its own page publishes no accuracy and no digest",
    ),
    CatalogEntry(
        "torchvision",
        PublishedFile(
            "alexnet-owt-7be5be79.pth",
            ("https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",),
            "sha256",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            244_408_911,
        ),
        "BSD-3-Clause",
        "owt",
        TORCHVISION_PREPROCESSING,
        56.522,
        79.066,
        "ImageNet validation, short side resized to 256 with antialiasing, centre crop of 224",
        notes="AlexNet_Weights.IMAGENET1K_V1; the first eight digits of the digest are in the "
        "published file name",
    ),
    CatalogEntry(
        "onnx",
        PublishedFile(
            "bvlcalexnet-12.onnx",
            (
                "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/"
                "classification/alexnet/model/bvlcalexnet-12.onnx",
            ),
            "sha256",
            "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
            243_863_787,
        ),
        "BSD-3-Clause",
        "alexnet",
        CAFFE_PREPROCESSING,
        54.80,
        78.23,
        "ImageNet validation, of the file's own network: input 224, asymmetric pooling",
        notes="converted from BVLC AlexNet; its weights run here at 227 with Caffe's pooling, "
        "where Caffe's own 57.1 / 80.2 are the figures to expect",
    ),
    CatalogEntry(
        "places365",
        PublishedFile(
            "alexnet_places365.caffemodel", (f"{_PLACES}/alexnet_places365.caffemodel",)
        ),
        "CC BY (CSAIL, MIT)",
        "caffenet",
        CAFFE_PREPROCESSING,
        classes=365,
        class_names="places365",
        notes="CaffeNet trained on the scenes of Places365-Standard (Zhou et al., 2017); its mean "
        "image is not published beside it: ImageNet's mean colour stands for it",
    ),
    CatalogEntry(
        "places365-torch",
        PublishedFile("alexnet_places365.pth.tar", (f"{_PLACES}/alexnet_places365.pth.tar",)),
        "CC BY (CSAIL, MIT)",
        "owt",
        replace(TORCHVISION_PREPROCESSING, resize="warp"),
        classes=365,
        class_names="places365",
        notes="the same scenes, PyTorch 0.2; an issue of CSAILVision/places365 reports the file "
        "as corrupt",
    ),
    CatalogEntry(
        "sin",
        PublishedFile(
            "alexnet_train_60_epochs_lr0.001-b4aa5238.pth.tar",
            (f"{_STYLIZED}/alexnet_train_60_epochs_lr0.001-b4aa5238.pth.tar",),
            "sha256",
            "b4aa5238",
        ),
        "not stated",
        "owt",
        TORCHVISION_PREPROCESSING,
        notes="trained on Stylized-ImageNet (Geirhos et al., 2018); the published file name holds "
        "the first eight digits of the digest",
    ),
    CatalogEntry(
        "ecoset",
        PublishedFile("alexnet_ecoset.pth", ("https://osf.io/t6h3c/download",)),
        "not stated",
        "owt",
        TORCHVISION_PREPROCESSING,
        classes=565,
        class_names=None,
        notes="trained on ecoset (Mehrer et al., 2021), as thingsvision loads it; the order of "
        "its classes is not published",
    ),
    CatalogEntry(
        "matconvnet",
        PublishedFile(
            "imagenet-caffe-alex.mat",
            (
                "https://www.vlfeat.org/matconvnet/models/imagenet-caffe-alex.mat",
                "http://www.vlfeat.org/matconvnet/models/imagenet-caffe-alex.mat",
            ),
            "md5",
            "ed49ef44caf18496291ce0c3257b0596",
        ),
        "not stated; converted from BVLC AlexNet (unrestricted use)",
        "alexnet",
        replace(CAFFE_PREPROCESSING, channel_order="RGB"),
        57.4,
        80.4,
        "ImageNet validation, centre crop",
        notes="BVLC AlexNet in MatConvNet; its mean image is in the file",
    ),
    CatalogEntry(
        "slim",
        PublishedFile("alexnet_v2.ckpt.index"),
        "not stated",
        "slim",
        PREPROCESSING["slim"],
        notes="TF-Slim's alexnet_v2; to be laid there by hand, its data file beside the index: a "
        "trained checkpoint is part of osf.io/3xupm (Mehrer et al., 2020)",
    ),
    CatalogEntry(
        "demo",
        PublishedFile("demo.keras"),
        "that of this package",
        "alexnet",
        CAFFE_PREPROCESSING,
        classes=9,
        class_names=None,
        notes="part of the package: a narrow network for the shapes of the demonstration only",
    ),
    CatalogEntry(
        "imagenet_mean",
        PublishedFile(
            "imagenet_mean.binaryproto",
            (
                f"{_MXNET}/imagenet_mean.binaryproto",
                "https://github.com/Robert0812/deepsaldet/raw/master/caffe-sal/data/ilsvrc12/"
                "imagenet_mean.binaryproto",
            ),
            "sha1",
            "63e4652e656abc1e87b7a8339a7e02fca63a2c0c",
        ),
        "unrestricted use (BVLC)",
        classes=None,
        class_names=None,
        notes="mean image, 3x256x256, BGR; BVLC's own copy is inside "
        f"{_BERKELEY}/caffe_ilsvrc12.tar.gz",
    ),
    CatalogEntry(
        "lpips",
        PublishedFile(
            "lpips-v0.1-alex.pth",
            (
                "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/"
                "alex.pth",
            ),
            "sha256",
            "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            6_009,
        ),
        "BSD-2-Clause",
        classes=None,
        class_names=None,
        notes="no network but the linear heads of LPIPS v0.1 (Zhang et al., 2018) for "
        "torchvision's AlexNet; the digest is that of the file in the package lpips 0.1.4",
    ),
)
PUBLISHED = {entry.name: entry for entry in _ENTRIES}


def find_entry(name: str) -> CatalogEntry:
    """The entry of this name. Raises ``WeightsError`` listing the valid names."""
    if name not in PUBLISHED:
        raise WeightsError(f"weights: expected one of {', '.join(PUBLISHED)}, got {name!r}")
    return PUBLISHED[name]
