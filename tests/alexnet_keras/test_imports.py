"""What imports what: a light package, a fast --help, and arrows that point one way."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_keras.cli import main

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("tensorflow", "keras", "numpy", "h5py", "sklearn", "PIL", "pycocotools", "rich")
HELP_SECONDS = 0.5
COMMANDS = [[], *([name] for name in main.commands), *(["weights", name] for name in main.commands["weights"].commands)]
PACKAGES = ("alexnet_keras", "weights", "modes")


def imported_by(code, names=HEAVY):
    """Which of ``names`` a fresh process has imported after it ran ``code``."""
    code = f"{code}\nimport sys\nprint([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return ast.literal_eval(done.stdout)


def test_help_of_every_command_imports_nothing_heavy():
    """All in one process: what the first had imported would be seen after the last."""
    code = (f"from click.testing import CliRunner\nfrom alexnet_keras.cli import main\n"
            f"for command in {COMMANDS}:\n    assert CliRunner().invoke(main, [*command, '--help']).exit_code == 0")
    assert imported_by(code) == []


def test_help_of_every_command_is_fast():
    """In seconds of processor, which is what a user waits for on an idle machine, and the same on a busy one."""
    def seconds(command):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "alexnet_keras", *command, "--help"], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
    slow = [command for command in COMMANDS if not any(seconds(command) < HELP_SECONDS for _ in range(3))]
    assert slow == []


def test_light_modules():
    assert imported_by("import alexnet_keras, alexnet_keras.spec, alexnet_keras.recipes, alexnet_keras.cli, modes") == []


def test_weight_readers_and_data_readers_need_no_tensorflow():
    readers = [name for name in GRAPH if name.startswith("weights.")]
    decoding = ("alexnet_keras.data.pipeline", "alexnet_keras.data.colour")
    readers += [name for name in GRAPH if name.startswith("alexnet_keras.data.") and name not in decoding]
    assert imported_by(f"import {', '.join(readers)}", ("tensorflow", "keras")) == []


def test_public_names_are_all_there():
    import alexnet_keras
    assert [name for name in alexnet_keras.__all__ if not hasattr(alexnet_keras, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'VGG'"):
        _ = alexnet_keras.VGG


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
LEVELS = [
    ("alexnet_keras", "alexnet_keras.errors", "weights", "modes"),
    ("alexnet_keras.spec", "alexnet_keras.whole_files", "alexnet_keras.stopping", "alexnet_keras.workers"),
    ("alexnet_keras.recipes", "alexnet_keras.checkpoints", "alexnet_keras.data.index"),
    ("alexnet_keras.data.samples", "alexnet_keras.data.files", "weights.canonical"),
    ("alexnet_keras.data.coco", "alexnet_keras.data.imagenet", "alexnet_keras.data.folder", "alexnet_keras.data.demo",
     "alexnet_keras.data.manifest"),
    ("alexnet_keras.layers", "alexnet_keras.preprocessing", "alexnet_keras.data.layouts", "alexnet_keras.model",
     "alexnet_keras.optimizer"),
    ("alexnet_keras.network", "alexnet_keras.augmentation", "alexnet_keras.progress"),
    ("alexnet_keras.data.pipeline",),
    ("alexnet_keras.data.colour", "alexnet_keras.evaluation", "alexnet_keras.features"),
    ("alexnet_keras.updates", "alexnet_keras.pretrained"),
    ("alexnet_keras.snapshots",),
    ("alexnet_keras.training",),
    ("alexnet_keras.tables", "alexnet_keras.metrics_log", "alexnet_keras.tensorboard", "alexnet_keras.training_progress"),
    ("alexnet_keras.runs", "alexnet_keras.applications"),
    ("modes.scratch", "modes.transfer", "modes.extract"),
    ("alexnet_keras.cli_options",),
    ("alexnet_keras.cli_output", "alexnet_keras.cli_recipes", "alexnet_keras.cli_weights"),
    ("alexnet_keras.cli_session",),
    ("alexnet_keras.cli_training",),
    ("alexnet_keras.cli",),
    ("alexnet_keras.__main__",)]


def test_imports_run_one_way():
    level_of = {name: level for level, names in enumerate(LEVELS) for name in names}
    assert set(level_of) <= set(GRAPH)
    wrong = [(name, target) for name in level_of for target in GRAPH[name]
             if target in level_of and level_of[target] >= level_of[name]]
    assert wrong == []


def test_modes_never_import_one_another():
    for name in GRAPH:
        if name.startswith("modes."):
            assert not any(target.startswith("modes") for target in GRAPH[name]), name


def test_readers_never_import_the_pipeline():
    for name in ("coco", "imagenet", "folder", "demo", "files", "samples", "layouts", "manifest", "index"):
        assert not any("pipeline" in target for target in GRAPH[f"alexnet_keras.data.{name}"]), name


def test_nothing_imports_the_command_line():
    doors = {name for name in GRAPH if name.startswith("alexnet_keras.cli")} | {"alexnet_keras.__main__"}
    assert {name for name in GRAPH if GRAPH[name] & doors} <= doors


def test_weights_know_of_the_package_only_what_is_light():
    for name in GRAPH:
        if name.split(".")[0] == "weights":
            assert {target for target in GRAPH[name] if target.startswith("alexnet_keras")} <= {
                "alexnet_keras.errors", "alexnet_keras.spec"}, name


def test_only_the_pipeline_speaks_tf_data():
    users = [path.relative_to(ROOT).as_posix() for _, path in modules() if "tf.data" in path.read_text(encoding="utf-8")]
    assert users == ["alexnet_keras/data/pipeline.py"]
