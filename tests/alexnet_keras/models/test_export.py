"""Exported networks hold operations that any TensorFlow computes, and new image sizes compile
nothing.
"""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from alexnet_keras.applications import AlexNet
from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.models.backends import tensorflow as backend
from alexnet_keras.models.layers import LocalResponseNormalization
from tests.alexnet_keras.tiny import tiny_model


def images(*sizes):
    return np.random.default_rng(0).standard_normal((2, *sizes, 3), np.float32) * 60


def operations(folder):
    """The kinds of all operations of a SavedModel; none may be meant for XLA alone."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    kinds = set()
    for meta in saved.meta_graphs:
        functions = meta.graph_def.library.function
        assert functions
        for function in functions:
            assert not [name for name in function.attr if "Xla" in name], function.signature.name
            kinds.update(node.op for node in function.node_def)
        nodes = [*meta.graph_def.node, *(node for each in functions for node in each.node_def)]
        assert not [node.name for node in nodes for name in node.attr if "Xla" in name]
    return kinds


def export(model, folder):
    model.export(folder, verbose=False)


def save(model, folder):
    tf.saved_model.save(model, folder)


def archive(model, folder):
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serve", model.call, [keras.InputSpec(shape=(None, 67, 67, 3), dtype="float32")]
    )
    archive.write_out(folder, verbose=False)


@pytest.mark.parametrize(
    ("way", "variant"),
    [(export, "alexnet"), (save, "alexnet"), (archive, "alexnet"), (export, "krizhevsky")],
)
def test_exports_hold_plain_operations_and_compute_the_same(tmp_path, way, variant):
    model = tiny_model(variant, size=67)
    expected = model.predict(images(67, 67), verbose=0)  # by compiled functions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Keras and TensorFlow, about each other
        way(model, str(tmp_path / "saved"))
        served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    assert "Rsqrt" in operations(tmp_path / "saved")
    (name,) = served.structured_input_signature[1]
    (found,) = served(**{name: tf.constant(images(67, 67))}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_an_extractor_is_exported_the_same_way(tmp_path):
    extractor = feature_extractor(tiny_model(), ["norm1", "fc7"])
    export(extractor, str(tmp_path / "saved"))
    operations(tmp_path / "saved")


def compiled_graphs():
    return [each.experimental_get_tracing_count() for each in backend.COMPILED]


def test_new_image_sizes_compile_nothing():
    model = AlexNet(False, None, None, (None, None, 3), "avg", variant=ALEXNET.with_width(0.05))
    before = compiled_graphs()
    network = tf.function(model)
    for size in (67, 83, 99):
        network(images(size, size))
        model(images(size, size))
    assert compiled_graphs() == before


def test_a_network_of_one_size_is_compiled_once_for_each_layer():
    keras.backend.clear_session()
    model = tiny_model(width=0.06)
    before = compiled_graphs()
    for _ in range(3):
        tf.function(model)(images(67, 67))
    assert compiled_graphs()[0] - before[0] == 2


def test_the_network_of_2012_compiles_its_three_normalizations():
    """Within channels by a function of its own: TensorFlow warns of one that is compiled five
    times, as three layers would in training and evaluation.
    """
    model = tiny_model("krizhevsky", width=0.06)
    within = backend.COMPILED_WITHIN[0].experimental_get_tracing_count
    before = compiled_graphs()[0], within()
    for _ in range(3):
        tf.function(model)(images(52, 52))
    assert (compiled_graphs()[0] - before[0], within() - before[1]) == (2, 1)


def test_without_xla_the_same_comes_of_plain_operations(monkeypatch):
    layer, x = LocalResponseNormalization(alpha=0.02), tf.constant(images(9, 9) / 60)

    def outcome():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, x)

    expected, before = outcome(), compiled_graphs()
    monkeypatch.setattr(backend, "xla_is_available", lambda: False)
    for found, wanted in zip(outcome(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert compiled_graphs() == before


def test_xla_is_tried(monkeypatch):
    def missing(*arguments, jit_compile, **options):
        raise tf.errors.UnimplementedError(None, None, "no XLA")

    assert backend.xla_is_available.__wrapped__()
    monkeypatch.setattr(tf, "function", missing)
    assert not backend.xla_is_available.__wrapped__()
