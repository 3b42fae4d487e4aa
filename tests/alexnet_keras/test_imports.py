"""What imports what: a light package, a fast --help, and arrows that point one way."""

import ast
import os
import resource
import subprocess
import sys
from types import ModuleType

import pytest

from alexnet_keras.cli.main import main
from tests.conftest import ROOT

HEAVY = ("tensorflow", "keras", "numpy", "h5py", "sklearn", "PIL", "pycocotools", "rich")
HELP_SECONDS = 0.5
COMMANDS = [
    [],
    *([name] for name in main.commands),
    *(["weights", name] for name in main.commands["weights"].commands),
]
DECODING = (
    "augment_ops",
    "bad_files",
    "batches",
    "colour_pca",
    "decoding",
    "feature_batches",
    "image_headers",
    "image_ops",
    "input_size",
    "mean_pass",
    "sample_loader",
)
PACKAGES = ("alexnet_keras", "weights", "modes")


def imported_by(code, names=HEAVY):
    """Which of ``names`` a fresh process has imported after it ran ``code``."""
    code = f"{code}\nimport sys\nprint([name for name in {names} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return ast.literal_eval(done.stdout)


def test_help_of_every_command_imports_nothing_heavy():
    """All in one process: what the first had imported would be seen after the last."""
    code = (
        f"from click.testing import CliRunner\nfrom alexnet_keras.cli.main import main\n"
        f"for command in {COMMANDS}:\n    assert CliRunner().invoke(main, [*command, "
        "'--help']).exit_code == 0"
    )
    assert imported_by(code) == []


def test_help_of_every_command_is_fast():
    """In seconds of processor, which is what a user waits for on an idle machine, and the same on
    a busy one.
    """

    def seconds(command):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "alexnet_keras", *command, "--help"],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime

    slow = [
        command
        for command in COMMANDS
        if not any(seconds(command) < HELP_SECONDS for _ in range(3))
    ]
    assert slow == []


def test_light_modules():
    assert (
        imported_by(
            "import alexnet_keras, alexnet_keras.configs.architecture, "
            "alexnet_keras.configs.recipe, alexnet_keras.cli.main, modes"
        )
        == []
    )


def test_weight_readers_and_data_readers_need_no_tensorflow():
    files = [*ROOT.glob("weights/*.py"), *ROOT.glob("alexnet_keras/data/*.py")]
    readers = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if path.stem not in DECODING
    ]
    assert imported_by(f"import {', '.join(readers)}", ("tensorflow", "keras")) == []


def test_public_names_are_all_there():
    import alexnet_keras

    assert [name for name in alexnet_keras.__all__ if not hasattr(alexnet_keras, name)] == []
    assert not any(
        isinstance(getattr(alexnet_keras, name), ModuleType) for name in alexnet_keras.__all__
    )
    assert set(alexnet_keras.__all__) < set(dir(alexnet_keras))
    with pytest.raises(AttributeError, match="has no attribute 'VGG'"):
        _ = alexnet_keras.VGG


def test_public_names_are_not_those_of_their_modules():
    """``package.name`` would be a function until its module is imported, and then the module."""
    import alexnet_keras

    modules = {path.stem for path in (ROOT / "alexnet_keras").iterdir()}
    assert not modules & set(alexnet_keras.__all__)


def test_the_packages_beside_this_one_are_its_doors():
    import alexnet_keras
    import modes
    import weights

    assert (alexnet_keras.modes, alexnet_keras.weights) == (modes, weights)


@pytest.mark.parametrize("name", ["modes", "weights"])
@pytest.mark.parametrize("kind", ["module", "package"])
@pytest.mark.parametrize("run", [["-c", "import alexnet_keras"], ["-m", "alexnet_keras", "-h"]])
def test_another_package_of_such_a_name_is_told(tmp_path, name, kind, run):
    """Python finds what lies in the current folder first."""
    if kind == "package":
        (tmp_path / name).mkdir()
    path = tmp_path / f"{name}.py" if kind == "module" else tmp_path / name / "__init__.py"
    path.write_text("")
    done = subprocess.run(
        [sys.executable, *run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    found = path if kind == "module" else path.parent
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: alexnet_keras: expected its package {name} at {ROOT / name}, got {found}, "
        "which shadows it"
    )


def test_a_folder_of_such_a_name_that_is_no_package_does_no_harm(tmp_path):
    (tmp_path / "weights").mkdir()
    subprocess.run(
        [sys.executable, "-c", "import alexnet_keras, weights.store; alexnet_keras.weights"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )


def test_tensorflow_computes_with_onednn_as_from_the_command_line():
    code = "import os, alexnet_keras\nalexnet_keras.Architecture\n"
    code += "assert os.environ['TF_ENABLE_ONEDNN_OPTS'] == '{}'"
    for given, expected in (({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")):
        environ = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
        subprocess.run(
            [sys.executable, "-c", code.format(expected)],
            cwd=ROOT,
            env=environ | given,
            check=True,
        )


# The arrows of docs/architecture.md.


def test_imports_run_one_way():
    """The contracts of pyproject.toml."""
    command = "from importlinter.cli import lint_imports_command as lint; lint()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_few_files_stand_outside_the_rooms():
    assert len([*(ROOT / "alexnet_keras").glob("*.py")]) <= 8


def test_only_the_batches_speak_tf_data():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    users = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if "tf.data" in path.read_text(encoding="utf-8")
    ]
    assert users == ["alexnet_keras/data/batches.py"]
