"""Resuming a run by --resume: what may change and what must not, and everything that can be
wrong with its folder.
"""

import json
import shutil

import pytest

from alexnet_keras.cli.main import main
from alexnet_keras.configs.option_fields import options_of
from alexnet_keras.configs.options import ScratchOptions
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.run_folder import RunFolder
from tests.alexnet_keras.tiny import encoded, picture
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke, read

TINY = ("--width", "0.02", "--recipe", "demo", "--batch-size", "4", "--save-every", "0")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A data set of six images a split, and a run of two steps on it that was saved after each."""
    folder = tmp_path_factory.mktemp("files")
    class_folders(folder / "tree", count=2)
    result = invoke(
        "scratch",
        "--data",
        folder / "tree",
        *TINY,
        "--epochs",
        "1",
        "--keep",
        "3",
        "--output",
        folder / "run",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    return folder


@pytest.fixture
def run(files, tmp_path):
    """That run, before it finished: a copy on a copy of its data."""
    shutil.copytree(files / "run", tmp_path / "run")
    shutil.copytree(files / "tree", tmp_path / "tree")
    (tmp_path / "run" / "result.json").unlink()
    edit(tmp_path / "run", lambda config: config["options"].update(data=str(tmp_path / "tree")))
    return tmp_path / "run"


def edit(run, change):
    config = read(run / "config.json")
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def checkpoints(run):
    return sorted((run / "checkpoints").iterdir())


def content_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("run.log", ".lock")
    }


def resume(run, *options):
    result = invoke("scratch", "--resume", run, *options)
    assert result.exit_code == 0, result.stderr
    return result


def test_a_checkpoint_says_what_the_run_was_asked(files):
    """Found without its folder, it says what it is a checkpoint of."""
    config, state = (
        read(files / "run" / "config.json"),
        read(checkpoints(files / "run")[-1] / "state.json"),
    )
    assert state["config"] == {
        name: value for name, value in config.items() if name != "environment"
    }
    assert {"recipe", "architecture", "preprocessing", "options"} <= set(state["config"])


# What may change.

MAY_CHANGE = (
    "--threads, --epochs, --steps, --lr, --clip-norm, --accumulate, --strategy, "
    "--worker-timeout, --save-every, "
    "--keep, --tensorboard"
)
FIXED = {
    "data": "x",
    "layout": "folder",
    "classes": "a",
    "min_size": "8",
    "context": "0.2",
    "square": None,
    "variant": "owt",
    "width": "0.5",
    "recipe": "paper",
    "batch_size": "8",
    "lr_schedule": "constant",
    "lr_step_size": "1",
    "lr_patience": "3",
    "lr_drops": "2",
    "lr_gamma": "0.5",
    "lr_mult": "fc8=2",
    "bias_lr_mult": "1",
    "momentum": "0.5",
    "weight_decay": "0",
    "decay_biases": None,
    "dropout": "0.1",
    "augment": "none",
    "colour": "data",
    "init": "he",
    "resize": "warp",
    "resize_to": "300",
    "mean": "image",
    "seed": "4",
    "precision": "mixed_bfloat16",
    "deterministic": None,
    "direct_convolution": None,
    "output": "other",
    "overwrite": None,
}


def test_every_option_either_may_change_or_is_tried_here():
    parameters = {parameter.name for parameter in main.commands["scratch"].params}
    changeable = {o.name for o in options_of(ScratchOptions).values() if o.changeable}
    assert parameters == changeable | set(FIXED) | {"resume"}


@pytest.mark.parametrize("name", FIXED)
def test_what_must_not_change_is_refused_with_a_list_of_what_may(files, name):
    option = "--format" if name == "layout" else f"--{name.replace('_', '-')}"
    value = () if FIXED[name] is None else (FIXED[name],)
    before = content_of(files / "run")
    assert_refused(
        "scratch",
        "--resume",
        files / "run",
        option,
        *value,
        says=(
            f"error: {option}: cannot change when a run is resumed; only ",
            f"only {MAY_CHANGE} can\n",
        ),
    )
    assert content_of(files / "run") == before


def test_the_same_command_begins_resumes_and_finds_a_run_finished(files, tmp_path):
    """A job that is queued again until it exits with 0 names all its options each time."""
    arguments = ("--data", files / "tree", *TINY, "--epochs", "1", "--lr-mult", "fc8=2")
    (tmp_path / "run").mkdir()
    begun = resume(tmp_path / "run", *arguments)
    assert begun.stdout.startswith("scratch: 6 train and 6 val samples of 3 classes")
    config = read(tmp_path / "run" / "config.json")
    (tmp_path / "run" / "result.json").unlink()
    assert resume(tmp_path / "run", *arguments).stdout.startswith("resuming from ")
    assert "finished already" in resume(tmp_path / "run", *arguments).stdout
    again = read(tmp_path / "run" / "config.json")
    (resumption,) = again.pop("continued")
    assert again == config
    assert resumption["options"] == {"epochs": 1, "save_every": 0.0}


def test_a_finished_run_is_no_error_and_is_resumed_with_more_epochs(files, run):
    """Systems that requeue a job until it exits with 0 need that."""
    shutil.copy(files / "run" / "result.json", run)
    before = content_of(run)
    finished = (
        f"{run}: finished already, after 2 steps; more --epochs or --steps train it further\n"
    )
    for options in ((), ("--epochs", "1"), ("--steps", "2"), ("--lr", "0.5"), ("--keep", "1")):
        result = resume(run, *options)
        assert (result.stdout, result.stderr) == (finished, "")
    assert content_of(run) == before
    result = resume(
        run, "--epochs", "2", "--tensorboard", "--lr", "0.002", "--keep", "1", "--threads", "1"
    )
    assert f"resuming from {run / 'checkpoints'}" in result.stdout
    assert ", the newest complete checkpoint: step 2\n" in result.stdout
    assert (read(run / "result.json")["steps"], read(run / "result.json")["finished"]) == (3, True)
    config = read(run / "config.json")
    assert (config["recipe"]["epochs"], config["recipe"]["learning_rate"]) == (2, 0.002)
    assert config["continued"][0]["options"] == {
        "epochs": 2,
        "tensorboard": True,
        "lr": 0.002,
        "keep": 1,
        "num_threads": 1,
    }
    assert len(list((run / "tensorboard").iterdir())) == 1
    assert [
        (line["event"], line["step"])
        for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    ] == [("epoch", 2), ("epoch", 3)]
    line = assert_refused(
        "scratch", "--resume", run, "--epochs", "1", "--steps", "9", says="got both"
    )
    assert line == "error: steps: expected either epochs or steps, got both\n"


@pytest.mark.slow
def test_a_longer_run_that_was_cut_off_resumes_with_its_own_length(files, run):
    """Its result.json is of the shorter run."""
    shutil.copy(files / "run" / "result.json", run)
    edit(run, lambda config: config["recipe"].update(epochs=2))
    resume(run)
    assert read(run / "result.json")["steps"] == 3


# Folders that are no run to resume.


def test_folders_without_a_config(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        assert_refused(
            "scratch",
            "--resume",
            folder,
            says=f"{folder}: expected a run folder; got no config.json",
        )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_of_another_mode(run):
    assert_refused(
        "transfer",
        "--resume",
        run,
        says=f"{run / 'config.json'}: mode: expected transfer, got scratch",
    )


def test_a_run_in_use(run):
    before = content_of(run)
    with RunFolder(run):
        assert_refused(
            "scratch", "--resume", run, says=f"{run}: another process is using this run"
        )
        assert_refused(
            "scratch",
            "--data",
            run.parent / "tree",
            *TINY,
            "--output",
            run,
            "--overwrite",
            says=f"{run}: another process is using this run",
        )
    assert content_of(run) == before


# Data that changed.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda path: path.write_bytes(encoded(picture(9)) + b"more"),
            ("1 samples differ", "bytes: expected ", ", got "),
        ),
        (lambda path: path.unlink(), ("1 samples differ; ", "removed")),
        (
            lambda path: shutil.copy(path, path.with_name("9.jpg")),
            ("1 samples differ; ", "added", "9.jpg"),
        ),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_changed_data_set_is_named(run, split, change, says):
    path = run.parent / "tree" / split / "owl" / "1.jpg"
    change(path)
    before = content_of(run)
    line = assert_refused(
        "scratch",
        "--resume",
        run,
        says=(
            f"{run.parent / 'tree'}: the data set has changed since the run started: ",
            f"the first is {split} ",
            *says,
        ),
    )
    assert content_of(run) == before
    assert ("1.jpg" in line) == ("added" not in line)


def test_a_class_more(run):
    class_folders(run.parent / "tree", classes=("yak",), count=1)
    assert_refused(
        "scratch",
        "--resume",
        run,
        says=("the data set has changed since the run started: ", "yak"),
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"no gzip"),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
    ],
)
def test_a_list_of_samples_that_cannot_be_read(run, damage):
    damage(run / "samples.csv.gz")
    assert_refused(
        "scratch",
        "--resume",
        run,
        says=f"{run / 'samples.csv.gz'}: expected the run's sample manifest, got: ",
    )


# Checkpoints.


def rewritten(run, change):
    """The newest checkpoint as another run would have left it: whole, with ``change`` made to its
    arrays and state.
    """
    saved = Checkpoints(run / "checkpoints", keep=9)
    newest = saved.newest()
    arrays, state = dict(newest.arrays), json.loads(json.dumps(newest.state))
    change(arrays, state)
    saved.save(arrays, state)
    assert saved.wait()
    return checkpoints(run)[-1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda arrays, state: state["about"].update(variant="owt"),
            "variant: expected alexnet, got owt",
        ),
        (lambda arrays, state: state["about"].update(classes=5), "classes: expected 3, got 5"),
        (lambda arrays, state: state["about"].update(seed=7), "seed: expected 0, got 7"),
        (
            lambda arrays, state: state["about"].update(mode="transfer"),
            "mode: expected scratch, got transfer",
        ),
        (lambda arrays, state: state.update(about=3), "mode: expected scratch, got None"),
        (lambda arrays, state: state.pop("about"), "mode: expected scratch, got None"),
        (lambda arrays, state: state.pop("progress"), "progress: "),
        (lambda arrays, state: state["progress"].update(odd=1), "progress: "),
        (
            lambda arrays, state: arrays.pop("fc8/kernel"),
            "fc8/kernel: expected an array of shape (82, 3), got none",
        ),
        (
            lambda arrays, state: arrays.update({"fc8/bias": arrays["fc8/bias"][:2]}),
            "fc8/bias: expected an array of shape (3,), got (2,)",
        ),
        (
            lambda arrays, state: arrays.pop("velocity/conv1/kernel"),
            "velocity/conv1/kernel: expected an array",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(run, change, says):
    path = rewritten(run, change)
    result = invoke("scratch", "--resume", run)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.stderr
    assert says in result.stderr
    assert str(path) in result.stderr or says.startswith("progress")


DAMAGE = {
    "a bit": lambda path: flip(path / "variables.npz"),
    "half copied": lambda path: cut(path / "variables.npz"),
    "no state": lambda path: (path / "state.json").unlink(),
    "no sums": lambda path: (path / "SHA256SUMS").unlink(),
    "empty": lambda path: [file.unlink() for file in path.iterdir()],
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage", ["a bit", *(pytest.param(name, marks=pytest.mark.slow) for name in [*DAMAGE][1:])]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run, files, damage):
    *_, previous, newest = checkpoints(run)
    DAMAGE[damage](newest)
    result = resume(run)
    assert result.stderr.startswith(f"warning: {newest}")
    assert result.stderr.endswith("; skipping this checkpoint\n")
    assert result.stderr.count("\n") == 1
    assert (
        f"resuming from {previous}, the newest complete checkpoint: step {previous.name[-1]}\n"
        in result.stdout
    )
    assert "skipping this checkpoint" in (run / "run.log").read_text()
    after, before = (read(folder / "result.json") for folder in (run, files / "run"))
    assert (after["steps"], after["loss"]) == (2, before["loss"])


@pytest.mark.slow
def test_without_a_checkpoint_it_starts_again(run, files):
    shutil.rmtree(run / "checkpoints")
    assert (
        f"{run}: no complete checkpoint was saved; restarting from config.json\n"
        in resume(run).stdout
    )
    assert read(run / "result.json")["loss"] == read(files / "run" / "result.json")["loss"]
