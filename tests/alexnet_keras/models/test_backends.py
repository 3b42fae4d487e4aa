"""The network and the benchmark under JAX and PyTorch, in processes where TensorFlow cannot be
imported.
"""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from alexnet_keras.configs.architecture import ALEXNET, VARIANTS, Dropout
from alexnet_keras.models.alexnet import build
from alexnet_keras.models.assign import layer_weights
from alexnet_keras.training.optimizer import MomentumSGD
from benchmarks import engines, gpu
from tests.alexnet_keras.tiny import SMALLEST, tiny_model
from tests.conftest import ROOT
from weights.writing import write_weights

BATCH, CLASSES, TOLERANCE = 3, 5, 1e-4
OTHERS = [
    pytest.param(
        name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")
    )
    for name in ("jax", "torch")
]


def run(backend, *arguments):
    """Run Python where Keras's backend is ``backend`` and every import of TensorFlow fails, unless
    it is the backend.
    """
    environment = {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


WITHOUT_TENSORFLOW = "import sys\nsys.modules['tensorflow'] = None\n"
OUTCOME = (
    WITHOUT_TENSORFLOW
    + """
import keras, numpy as np
from pathlib import Path
from alexnet_keras.configs import recipe as recipes
from alexnet_keras.models.alexnet import build
from alexnet_keras.configs.architecture import VARIANTS
from benchmarks.engines import mean_loss
from alexnet_keras.models.assign import assign_weights, layer_weights
from weights.reading import read_weights

def gradients(model, x, labels):
    if keras.backend.backend() == "jax":
        import jax
        fixed = [variable.value for variable in model.non_trainable_variables]
        loss = lambda weights: mean_loss(labels, model.stateless_call(weights, fixed, x)[0])
        return jax.grad(loss)([variable.value for variable in model.trainable_variables])
    mean_loss(labels, model(x)).backward()
    return [variable.value.grad for variable in model.trainable_variables]

folder = Path(sys.argv[1])
for path in sorted(folder.glob("*.npy")):
    x = keras.ops.convert_to_tensor(np.load(path))
    narrow = VARIANTS[path.stem].with_width(0.05)
    model = build(narrow, keras.Input(x.shape[1:]), 5, classifier_activation=None)
    assign_weights(model, read_weights(path.with_suffix(".npz")))
    labels = keras.ops.convert_to_tensor(np.arange(len(x)))
    found = {f"d {variable.path}": gradient for variable, gradient in
             zip(model.trainable_variables, gradients(model, x, labels), strict=True)}
    outputs = keras.Model(model.inputs[0], [layer.output for layer in model.layers[1:]])(x)
    found |= {layer.name: output for layer, output in zip(model.layers[1:], outputs, strict=True)}
    found = {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}
    np.savez(folder / f"{path.stem}.out", **found)
"""
)


def outcome_of(model, x):
    """Every layer's output and the gradient of the mean loss by every variable, by TensorFlow."""
    with tf.GradientTape() as tape:
        loss = engines.mean_loss(np.arange(len(x)), model(x))
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    outputs = keras.Model(model.inputs[0], [layer.output for layer in model.layers[1:]])(x)
    return {
        **{
            f"d {variable.path}": gradient.numpy()
            for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        },
        **{
            layer.name: output.numpy()
            for layer, output in zip(model.layers[1:], outputs, strict=True)
        },
    }


def randomized(model, seed):
    """The model with weights that keep the activations of 0-255 images large to the end, so that
    normalization acts.
    """
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        scale = math.sqrt(2 / math.prod(variable.shape[:-1])) if len(variable.shape) > 1 else 1
        variable.assign(generator.standard_normal(variable.shape, np.float32) * np.float32(scale))
    return model


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The folder of inputs and weights of each variant, and what TensorFlow makes of them."""
    folder, results = tmp_path_factory.mktemp("expected"), {}
    for seed, variant in enumerate(VARIANTS):
        size = SMALLEST[variant] + 16
        model = randomized(
            tiny_model(variant, size=size, classes=CLASSES, classifier_activation=None), seed
        )
        x = np.random.default_rng(seed).standard_normal(
            (BATCH, size, size, 3), np.float32
        ) * np.float32(60)
        write_weights(folder / f"{variant}.npz", layer_weights(model))
        np.save(folder / f"{variant}.npy", x)
        results[variant] = outcome_of(model, x)
    return folder, results


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHERS)
def test_same_network_same_outputs_same_gradients(backend, expected):
    folder, results = expected
    run(backend, "-c", OUTCOME, folder)
    for variant, result in results.items():
        with np.load(folder / f"{variant}.out.npz") as found:
            assert list(found) == list(result)
            errors = {
                name: np.abs(found[name] - theirs).max() / np.abs(theirs).max()
                for name, theirs in result.items()
            }
            assert [found[name].shape for name in result] == [
                theirs.shape for theirs in result.values()
            ]
        assert {name: error for name, error in errors.items() if not error < TOLERANCE} == {}, (
            variant
        )


TWO_STEPS = """
import numpy as np
from benchmarks.engines import ENGINES
import keras, sys
from dataclasses import replace
from alexnet_keras.configs.architecture import ALEXNET, Dropout
backend = keras.backend.backend()
network = replace(ALEXNET.with_width(0.05).replace_each(Dropout, rate=0.0), input_size=67)
engine = ENGINES[backend](network, 5, "float32", False)
x = engine.put(np.load(sys.argv[1]))
labels = engine.put(np.arange(len(x), dtype=np.int32))
def copies():
    return [np.array(keras.ops.convert_to_numpy(weight)) for weight in engine.weights]

before = copies()
logits = keras.ops.convert_to_numpy(engine.infer(x))
for _ in range(2):
    loss = engine.train(x, labels)
engine.wait(loss)
np.savez(sys.argv[2], *before, *copies(), logits=logits, loss=float(loss))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", *OTHERS])
def test_benchmarks_step_is_the_projects_own_optimizer(backend, tmp_path):
    x = np.random.default_rng(0).standard_normal((BATCH, 67, 67, 3), np.float32) * np.float32(60)
    np.save(tmp_path / "x.npy", x)
    code = TWO_STEPS if backend == "tensorflow" else WITHOUT_TENSORFLOW + TWO_STEPS
    run(backend, "-c", code, tmp_path / "x.npy", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as found:
        found = dict(found)
    arrays = [found[f"arr_{index}"] for index in range(32)]
    network = replace(ALEXNET.with_width(0.05).replace_each(Dropout, rate=0.0), input_size=67)
    model = build(network, keras.Input((67, 67, 3)), CLASSES, classifier_activation=None)
    model.set_weights(arrays[:16])
    np.testing.assert_allclose(
        found["logits"], model(x), rtol=1e-4, atol=1e-4 * np.abs(found["logits"]).max()
    )
    optimizer = MomentumSGD(
        engines.LEARNING_RATE, engines.MOMENTUM, engines.WEIGHT_DECAY, engines.BIAS_MULTIPLIER
    )
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = engines.mean_loss(np.arange(BATCH), model(x))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    assert float(found["loss"]) == pytest.approx(float(loss), rel=1e-4)
    for before, ours, theirs in zip(arrays[:16], arrays[16:], model.get_weights(), strict=True):
        moved = theirs - before
        np.testing.assert_allclose(
            ours - before, moved, rtol=1e-2, atol=2e-3 * np.abs(moved).max()
        )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", *OTHERS])
def test_benchmark_measures_and_writes_what_it_prints(backend, tmp_path):
    file = tmp_path / "out.json"
    printed = run(
        backend,
        "-m",
        "benchmarks.gpu",
        "--width",
        0.02,
        "--batch-sizes",
        "2,1",
        "--seconds",
        0.05,
        "--gemm-size",
        64,
        "--precision",
        "float32" if backend == "jax" else "bfloat16",
        "--json",
        file,
    )
    report = json.loads(file.read_text())
    assert report["backend"] == backend
    assert {backend, "keras", "numpy", "python"} == set(report["versions"])
    tasks = [(row["task"], row["batch_size"]) for row in report["measurements"]]
    assert tasks == [("inference", 1), ("training", 1), ("inference", 2), ("training", 2)]
    for row in report["measurements"]:
        low, high = row["images_per_second_range"]
        assert 0 < low <= row["images_per_second"] <= high
        assert row["images_per_second"] == pytest.approx(
            1e3 * row["batch_size"] / row["milliseconds"]
        )
        flops = report["gflop_per_image"][row["task"]] * 1e9
        assert row["of_gemm"] == pytest.approx(
            row["images_per_second"] * flops / 1e12 / report["gemm"]["tflops"]
        )
        assert f"{row['images_per_second']:.1f}" in printed


def test_operations_counted_are_the_published_ones():
    model = build(ALEXNET, keras.Input((227, 227, 3)))
    forward = engines.forward_flops(model)
    assert sum(forward) == pytest.approx(2 * 0.724e9, rel=1e-3)
    assert forward[0] == 2 * 55 * 55 * 96 * 11 * 11 * 3
    assert engines.training_flops(model) == 3 * sum(forward) - forward[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--batch-sizes", "0"], "expected positive integers such as 1,32,128, got '0'"),
        (["--batch-sizes", "1,,2"], "got '1,,2'"),
        (["--seconds", "0"], "0.0 is not in the range"),
    ],
)
def test_arguments_refused(arguments, text):
    result = CliRunner().invoke(gpu.main, arguments)
    assert result.exit_code == 2
    assert text in result.output


def test_backend_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None if name == "jax" else True)
    result = CliRunner().invoke(gpu.main, ["--backend", "jax"])
    assert result.exit_code == 2
    assert "expected one of tensorflow, torch (installed), got jax" in result.output
