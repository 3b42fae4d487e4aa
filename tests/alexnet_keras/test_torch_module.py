"""The network in plain PyTorch: the same numbers in every layer as Keras's, from the same file."""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.pretrained.loading import load_pretrained
from alexnet_keras.pretrained.verification import convert
from tests.alexnet_keras.tiny import tiny_model
from tests.conftest import ROOT
from weights.reading import read_weights
from weights.writing import write_weights

FILE = ROOT / "alexnet_keras" / "torch_module.py"
NETWORKS = ("alexnet", "caffenet", "paper", "krizhevsky")


def torch_network(path):
    """torch and the module of the file at ``path``, for evaluation."""
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra oracle")
    from alexnet_keras.torch_module import AlexNet

    return torch, AlexNet(torch.load(path, weights_only=True)).eval()


def random_model(variant, size, seed=0, width=1 / 16):
    """A narrow network whose activations are of one size in every layer, biases of both signs."""
    generator = np.random.default_rng(seed)
    model = tiny_model(variant, width=width, size=size, classes=7)
    for layer in model.layers:
        for variable in layer.weights:
            shape = variable.shape
            scale = (2 / np.prod(shape[:-1])) ** 0.5 if len(shape) > 1 else 0.1
            variable.assign(generator.standard_normal(shape) * scale)
    return model


def keras_layers(model, images):
    names = model.architecture.layer_names
    return {
        name: np.asarray(value).transpose(0, 3, 1, 2) if value.ndim == 4 else np.asarray(value)
        for name, value in feature_extractor(model, names)(images).items()
    }


def torch_layers(torch, network, images, names):
    """By forward hooks, as other packages take activations."""
    found = {}

    def keep(name):
        return lambda module, inputs, output: found.update({name: output.detach().clone().numpy()})

    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad():
        network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    return found


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def random_images(size, count=2):
    return np.random.default_rng(1).uniform(-120, 130, (count, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("variant", NETWORKS)
@pytest.mark.parametrize("odd", [False, True], ids=["its size", "another size"])
def test_every_layer_agrees_with_keras(tmp_path, variant, odd):
    size = VARIANTS[variant].input_size - (70 if odd else 0)
    model = random_model(variant, size)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.pth")
    torch, network = torch_network(tmp_path / "ours.pth")
    images = random_images(size)
    expected = keras_layers(model, images)
    found = torch_layers(torch, network, images, expected)
    order = [name for name, _ in network.named_children() if name in expected]
    assert order == list(model.architecture.layer_names)
    for name, activations in expected.items():
        assert found[name].shape == activations.shape, name
        assert np.abs(activations).max() > 0, f"{name} is dead and shows nothing"
        assert relative(found[name], activations) < 1e-5, name


def test_the_dropout_of_2012_masks_in_training_and_halves_at_test(tmp_path):
    model = random_model("krizhevsky", 52)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.pth")
    torch, network = torch_network(tmp_path / "ours.pth")
    x = torch.arange(1.0, 1001)
    assert torch.equal(network.drop6(x), x / 2)
    masked = network.train().drop6(x)
    assert set((masked / x).tolist()) == {0, 1}
    assert 400 < (masked > 0).sum() < 600


def test_a_network_can_be_trained_and_saved_again(tmp_path):
    """Nothing is changed in place; what torch.save writes afterwards is read here."""
    model = random_model("krizhevsky", 52)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.pth")
    torch, network = torch_network(tmp_path / "ours.pth")
    images = torch.from_numpy(random_images(52).transpose(0, 3, 1, 2).copy())
    del network.prob
    torch.nn.functional.cross_entropy(network.train()(images), torch.tensor([1, 2])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    checkpoint = {"epoch": 1, "state_dict": network.state_dict()}
    torch.save(checkpoint, tmp_path / "again.pth")
    found = read_weights(tmp_path / "again.pth").layers
    np.testing.assert_array_equal(found["conv1"][0], model.get_layer("conv1").kernel)
    np.testing.assert_array_equal(found["fc6"][0], model.get_layer("fc6").kernel)


def test_torchvisions_network_loads_owt(tmp_path):
    """torchvision's layers take owt's file, strictly, and compute the same."""
    torch = pytest.importorskip("torch")
    model = tiny_model("owt")
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.pth")
    state = torch.load(tmp_path / "ours.pth", weights_only=True)
    nn = torch.nn
    shapes = {name: tensor.shape for name, tensor in state.items()}

    def conv(name, **options):
        out, inputs, size, _ = shapes[f"{name}.weight"]
        return nn.Conv2d(inputs, out, size, **options)

    def dense(name):
        return nn.Linear(*reversed(shapes[f"{name}.weight"]))

    network = nn.Module()  # torchvision.models.alexnet, which need not be installed
    network.features = nn.Sequential(
        conv("features.0", stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        conv("features.3", padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        conv("features.6", padding=1),
        nn.ReLU(inplace=True),
        conv("features.8", padding=1),
        nn.ReLU(inplace=True),
        conv("features.10", padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    network.classifier = nn.Sequential(
        nn.Dropout(),
        dense("classifier.1"),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        dense("classifier.4"),
        nn.ReLU(inplace=True),
        dense("classifier.6"),
    )
    network.load_state_dict(state, strict=True)
    network.eval()
    images = random_images(63)
    with torch.no_grad():
        pool5 = network.features(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        fc8 = network.classifier(pool5.flatten(1)).numpy()
    expected = keras_layers(model, images)
    assert relative(fc8, expected["fc8"]) < 1e-5
    torch.save(network.state_dict(), tmp_path / "again.pth")
    found = read_weights(tmp_path / "again.pth").layers
    np.testing.assert_array_equal(found["fc6"][0], model.get_layer("fc6").kernel)


def test_the_real_trunk_agrees_at_pool5(shared_data, tmp_path):
    """conv1-conv5 of BVLC AlexNet, in a network whose other layers are tiny."""
    trunk = read_weights(shared_data / "bvlc_alexnet_trunk.caffemodel").layers
    generator = np.random.default_rng(0)
    sizes = {"fc6": (9216, 8), "fc7": (8, 8), "fc8": (8, 3)}
    layers = trunk | {
        name: (generator.standard_normal(shape, np.float32), np.zeros(shape[1], np.float32))
        for name, shape in sizes.items()
    }
    write_weights(tmp_path / "trunk.pth", layers, variant="alexnet")
    torch, network = torch_network(tmp_path / "trunk.pth")
    model = load_pretrained(str(tmp_path / "trunk.pth")).model
    images = random_images(227)
    expected = keras_layers(model, images)
    found = torch_layers(torch, network, images, expected)
    for name in ("conv1", "norm1", "pool1", "conv2", "conv5", "pool5"):
        assert relative(found[name], expected[name]) < 1e-5, name


# Its own requirements (TensorFlow below 2.16, NumPy 1, torchvision 0.15.2) exclude ours. Installed
# with --no-deps it runs beside ours once it finds a name of NumPy 1 and torchvision's operators.
THINGSVISION = """
import sys
import numpy as np
import torch
np.AxisError = np.exceptions.AxisError
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from thingsvision import get_extractor_from_model
from alexnet_keras.torch_module import AlexNet
network = AlexNet(torch.load(sys.argv[1], weights_only=True))
extractor = get_extractor_from_model(model=network, device="cpu", backend="pt")
expected = np.load(sys.argv[2])
images = torch.from_numpy(expected["images"].transpose(0, 3, 1, 2).copy())
for name in ("conv1", "pool1", "cnorm2", "pool5", "fc6", "fc8"):
    found = extractor.extract_features(
        batches=[images], module_name=name, flatten_acts=False, output_type="ndarray"
    )
    distance = np.linalg.norm(found - expected[name]) / np.linalg.norm(expected[name])
    assert distance < 1e-5, (name, distance)
"""


def test_thingsvisions_extractor_finds_our_layers(tmp_path):
    pytest.importorskip("torch", reason="PyTorch comes with the extra oracle")
    if importlib.util.find_spec("thingsvision") is None:
        pytest.skip("thingsvision is not installed: its requirements exclude ours")
    model = random_model("krizhevsky", 224)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.pth")
    images = random_images(224)
    np.savez(tmp_path / "expected.npz", images=images, **keras_layers(model, images))
    command = [sys.executable, "-c", THINGSVISION, tmp_path / "ours.pth"]
    subprocess.run([*command, tmp_path / "expected.npz"], cwd=ROOT, check=True)


def test_the_file_is_short_and_stands_alone(tmp_path):
    source = FILE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 60
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in imported} == {"torch"}
    pytest.importorskip("torch")
    shutil.copy(FILE, tmp_path / "alexnet.py")
    code = "import alexnet, sys; assert not any('keras' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PATH": ""})


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    text = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"## For PyTorch users.*?```python\n(.*?)```", text, re.DOTALL)
    model = random_model("alexnet", 227)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "mine.pth")
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out == "torch.Size([1, 7]) torch.Size([1, 16, 6, 6])\n"


@pytest.mark.slow
def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, alexnet_keras, alexnet_keras.applications, weights.torch_writer\n"
        "alexnet_keras.AlexNet\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
