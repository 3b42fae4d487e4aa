"""Small data sets on disk, with real pictures, one for each layout, and the command line to run on
them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from click.testing import CliRunner

from alexnet_keras.cli.main import main
from tests.alexnet_keras.tiny import encoded, picture
from tests.conftest import ROOT

SMALL = ("--width", "0.05", "--epochs", "1", "--batch-size", "8")
CATEGORIES = {3: "circle", 5: "square", 90: "star"}


def coco_tree(root, images=None, width=96, height=72):
    """A COCO data set: ``images`` of each split, two objects in each, 40 pixels and more."""
    (root / "annotations").mkdir(parents=True)
    for split, count in (images or {"train2017": 8, "val2017": 4}).items():
        (root / split).mkdir()
        numbers = list(CATEGORIES)
        dataset = {
            "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
            "images": [
                {"id": index, "file_name": f"{index:04d}.jpg", "width": width, "height": height}
                for index in range(count)
            ],
            "annotations": [
                {
                    "id": 2 * index + place,
                    "image_id": index,
                    "bbox": [4 + 44 * place, 10, 40, 45],
                    "category_id": numbers[(index + place) % 3],
                }
                for index in range(count)
                for place in (0, 1)
            ],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(dataset))
        for index in range(count):
            (root / split / f"{index:04d}.jpg").write_bytes(encoded(picture(index, height, width)))
    return root


def class_folders(root, classes=("cat", "dog", "owl"), count=4, splits=("train", "val")):
    """``<split>/<class>/<n>.jpg``; with wnids for classes it is an ImageNet tree."""
    for split in splits:
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                (root / split / name / f"{index}.jpg").write_bytes(
                    encoded(picture(100 * number + index))
                )
    return root


def invoke(*arguments):
    """The command line in this process: a click ``Result``; errors that it should have caught are
    raised.
    """
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], catch_exceptions=False
    )


def process(*arguments):
    """The command line in a process of its own, which hears Ctrl-C also where these tests run in
    the background.
    """
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "alexnet_keras", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    finally:
        signal.signal(signal.SIGINT, heard)


def read(path):
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def assert_refused(*arguments, says):
    """One line on stderr that holds every text of ``says``, nothing on stdout, exit code 2."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    for text in says if isinstance(says, tuple) else (says,):
        assert str(text) in result.stderr
    return result.stderr
