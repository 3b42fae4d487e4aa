"""What imports what: a light package, a fast --help, and arrows that point one way."""

import ast
import os
import re
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
    readers = [name for name in GRAPH if name.startswith("weights.")]
    decoding = tuple(
        f"alexnet_keras.data.{name}"
        for name in (
            "augment_ops",
            "batches",
            "colour_pca",
            "feature_batches",
            "image_headers",
            "image_ops",
        )
    )
    readers += [
        name for name in GRAPH if name.startswith("alexnet_keras.data.") and name not in decoding
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


def imports_of(path):
    """Full names of the project's own modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if is_module(name) else node.module for name in modules]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name.split(".")[0] in PACKAGES)


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def modules():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


GRAPH = {name: set(imports_of(path)) for name, path in modules()}
ROOMS = [  # each may import those before it, and itself
    ("weights",),
    ("alexnet_keras.errors",),
    ("alexnet_keras.atomic_files", "alexnet_keras.progress"),
    ("alexnet_keras.configs",),
    ("alexnet_keras.models", "alexnet_keras.data"),
    ("alexnet_keras.distribute",),
    ("alexnet_keras.pretrained", "alexnet_keras.evaluation", "alexnet_keras.features"),
    ("alexnet_keras.training", "alexnet_keras.applications"),
    ("modes",),
    ("alexnet_keras.cli",),
    ("alexnet_keras.__main__",),
]


def room_of(name):
    """The room that a module lies in, and its level; None of the package itself, a door to all."""
    rooms = [(room, level) for level, names in enumerate(ROOMS) for room in names]
    found = [at for at in rooms if name == at[0] or name.startswith(at[0] + ".")]
    return max(found, key=lambda at: len(at[0]), default=(name, None))


def test_every_module_lies_in_a_room():
    assert [name for name in GRAPH if room_of(name)[1] is None] == ["alexnet_keras"]


def test_imports_run_one_way():
    wrong = []
    for name, targets in GRAPH.items():
        room, level = room_of(name)
        for target in targets:
            other, below = room_of(target)
            if level is not None and below is not None and other != room and below >= level:
                wrong.append((name, target))
    assert wrong == []


def test_few_files_stand_outside_the_rooms():
    assert len([*(ROOT / "alexnet_keras").glob("*.py")]) <= 8


def test_no_module_imports_itself_by_way_of_others():
    left = {name: targets & GRAPH.keys() for name, targets in GRAPH.items()}
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert left == {}


def test_modes_never_import_one_another():
    for name in GRAPH:
        if name.startswith("modes."):
            assert not any(target.startswith("modes") for target in GRAPH[name]), name


def test_readers_never_import_the_batches():
    for name in (
        "coco",
        "imagenet",
        "folder",
        "demo",
        "listing",
        "samples",
        "layouts",
        "manifest",
        "listing_cache",
    ):
        assert not any("batches" in target for target in GRAPH[f"alexnet_keras.data.{name}"]), name


def test_only_the_command_line_imports_the_modes():
    """And the package itself, when one of its names is used."""
    users = {name for name in GRAPH if any(each.split(".")[0] == "modes" for each in GRAPH[name])}
    assert all(name.startswith("alexnet_keras.cli.") for name in users if "modes" not in name)


def test_click_only_parses():
    for name, path in modules():
        text = path.read_text(encoding="utf-8")
        if name.startswith("alexnet_keras.cli"):
            if name.endswith("weights_commands"):  # to be split
                continue
            assert len(text.splitlines()) <= 150, name
        else:
            assert not re.search(r"^\s*(import|from) click", text, re.MULTILINE), name


def test_nothing_imports_the_command_line():
    doors = {name for name in GRAPH if name.startswith("alexnet_keras.cli.main")} | {
        "alexnet_keras.__main__"
    }
    assert {name for name in GRAPH if GRAPH[name] & doors} <= doors


def test_weights_know_nothing_of_the_package():
    for name, targets in GRAPH.items():
        if name.split(".")[0] == "weights":
            assert not any(target.startswith("alexnet_keras") for target in targets), name


def test_only_the_batches_speak_tf_data():
    users = [
        path.relative_to(ROOT).as_posix()
        for _, path in modules()
        if "tf.data" in path.read_text(encoding="utf-8")
    ]
    assert users == ["alexnet_keras/data/batches.py"]
