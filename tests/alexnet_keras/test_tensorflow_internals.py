"""TensorFlow's private names: they live in one file, and are there."""

import re

import pytest
import tensorflow as tf

from alexnet_keras import tensorflow_internals
from tests.conftest import ROOT

TRIED = ("2.18", "2.19", "2.20", "2.21")
PRIVATE = re.compile(r"tensorflow\.python|_context_handle|_check_health|context\.context\(\)")


def test_the_version_is_one_that_they_were_tried_on():
    version = ".".join(tf.__version__.split(".")[:2])
    assert version in TRIED, (
        f"TensorFlow {version}: try alexnet_keras/tensorflow_internals.py on it, and add it here"
    )


@pytest.mark.parametrize("name", tensorflow_internals.HEALTH_CHECK_FIELDS)
def test_the_health_check_has_its_settings(name):
    assert hasattr(tensorflow_internals.CollectiveAllReduceExtended, name), (
        f"TensorFlow {tf.__version__} has no CollectiveAllReduceExtended.{name}: a worker that "
        "stands still would not be noticed"
    )


def test_the_context_has_its_names():
    context = tensorflow_internals.context.context()
    for name in ("_context_handle", "configure_coordination_service"):
        assert hasattr(context, name), f"TensorFlow {tf.__version__} has no context().{name}"
    tf.zeros(1)
    assert tensorflow_internals.context_is_initialized()
    assert not tensorflow_internals.in_save_context()


def test_no_other_file_uses_private_names():
    users = {
        str(path.relative_to(ROOT))
        for folder in ("alexnet_keras", "modes", "weights", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if PRIVATE.search(path.read_text(encoding="utf-8"))
    }
    assert users == {"alexnet_keras/tensorflow_internals.py"}
