"""The calls of ``alexnet_keras``: as from the command line, in the same folders."""

import csv
import inspect
import json
import logging
import os
import signal

import numpy as np
import pytest

import alexnet_keras
from alexnet_keras.cli.main import main
from alexnet_keras.configs.option_fields import options_of
from alexnet_keras.configs.options import (
    EvaluateOptions,
    ExtractOptions,
    PredictOptions,
    ScratchOptions,
    TransferOptions,
)
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.training.run_folder import RunFolder
from tests.alexnet_keras.trees import class_folders, invoke, read

DECLARED = {
    "scratch": ScratchOptions,
    "transfer": TransferOptions,
    "extract": ExtractOptions,
    "evaluate": EvaluateOptions,
    "predict": PredictOptions,
}
TINY = {"width": 0.02, "recipe": "demo", "batch_size": 4, "epochs": 2, "save_every": 0}
TIMES = {"seconds", "images_per_second", "step_seconds", "input_seconds"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A data set of six images a split, and a run on it, made from Python."""
    folder = tmp_path_factory.mktemp("files")
    class_folders(folder / "tree", count=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command sets it
        alexnet_keras.scratch(
            data=folder / "tree", output=folder / "run", lr_mult={"fc8": 2}, verbose=0, **TINY
        )
    return folder


# What a call takes.


@pytest.mark.parametrize("name", DECLARED)
def test_every_keyword_is_an_option_of_the_command_and_the_other_way_round(name):
    keywords = {
        parameter.name
        for parameter in inspect.signature(getattr(alexnet_keras, name)).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    } - {"verbose"}
    parameters = {
        parameter.name: parameter
        for parameter in main.commands[name].params
        if parameter.param_type_name == "option" and parameter.name != "as_json"
    }
    assert keywords == set(parameters) == set(options_of(DECLARED[name]))
    for option in options_of(DECLARED[name]).values():
        assert parameters[option.name].opts[0] == option.flag


@pytest.mark.parametrize("name", DECLARED)
def test_help_lists_every_option(name):
    function = getattr(alexnet_keras, name)
    assert function.__name__ == name
    for option in options_of(DECLARED[name]).values():
        assert f"\n    {option.name}: {option.help}" in function.__doc__
    assert "Example::" in function.__doc__


def test_a_keyword_that_no_option_has():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        alexnet_keras.scratch(epoch=3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epochs": "3"}, "epochs: expected an integer, got '3'"),
        ({"epochs": True}, "epochs: expected an integer, got True"),
        ({"lr": "much"}, "lr: expected a number, got 'much'"),
        ({"seed": -1}, "seed: expected an integer from 0 to 2147483647, got -1"),
        ({"num_threads": 0}, "num_threads: expected an integer, at least 1, got 0"),
        ({"keep": None}, "keep: expected an integer, at least 1, got None"),
        (
            {"variant": "vgg"},
            "variant: expected one of alexnet, caffenet, paper, owt, krizhevsky, slim, got 'vgg'",
        ),
        ({"deterministic": 1}, "deterministic: expected True or False, got 1"),
        ({"classes": 3}, "classes: expected a list, got 3"),
        ({"classes": [3]}, "classes: expected text, got 3"),
        ({"data": 3}, "data: expected a path, a list of paths or an array, got int"),
        ({"verbose": 3}, "verbose: expected 'auto', 0, 1 or 2, got 3"),
        ({"verbose": True}, "verbose: expected 'auto', 0, 1 or 2, got True"),
    ],
)
def test_values_that_an_option_does_not_take(options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as raised:
        alexnet_keras.scratch(**options)
    assert str(raised.value) == says
    assert list(tmp_path.iterdir()) == []


# A run.


def test_the_folder_is_that_of_the_command(files, tmp_path):
    """All of it but the times, and the places of the two."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in TINY.items()]
    result = invoke(
        "scratch",
        "--data",
        files / "tree",
        *arguments,
        "--lr-mult",
        "fc8=2",
        "--output",
        tmp_path / "run",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    ours, theirs = files / "run", tmp_path / "run"
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert read(ours / "config.json") == read(theirs / "config.json")
    for name in ("samples.csv.gz", "confusion.csv", "classes.csv"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert timeless(read(ours / "result.json")) == timeless(read(theirs / "result.json"))
    ours, theirs = alexnet_keras.Run(ours), alexnet_keras.Run(theirs)
    assert timeless(ours.history) == timeless(theirs.history)
    for one, other in zip(ours.model.get_weights(), theirs.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def timeless(figures):
    return {
        name: value for name, value in figures.items() if name.removeprefix("val_") not in TIMES
    }


def test_what_a_run_has(files):
    run = alexnet_keras.Run(str(files / "run"))
    assert run.folder == files / "run"
    assert run.result == read(files / "run" / "result.json")
    assert run.history["epoch"] == [0, 1]
    assert run.history["val_loss"][-1] == run.result["loss"]
    assert {len(column) for column in run.history.values()} == {2}
    assert run.config["recipe"]["multipliers"] == {"fc8": 2}
    assert run.model is run.model
    assert run.model.class_names == ("cat", "dog", "owl")
    assert os.fspath(run) == str(files / "run")
    assert repr(run) == f"<Run {files / 'run'}: finished>"


def test_what_a_run_has_before_it_finished(files, tmp_path):
    with pytest.raises(RunError, match="expected a run folder; got no config.json$"):
        alexnet_keras.Run(tmp_path)
    (tmp_path / "config.json").write_text((files / "run" / "config.json").read_text())
    run = alexnet_keras.Run(tmp_path)
    assert (run.result, run.history) == ({}, {})
    (tmp_path / "metrics.jsonl").write_text(
        '{"event": "step"}\n{"event": "epoch", "loss": 1}\n{"e'
    )
    assert run.history == {"loss": [1]}


@pytest.mark.slow
def test_interrupted_and_resumed_without_a_shell(files, tmp_path, monkeypatch):
    """Ctrl-C returns the run; ``resume`` takes it to the weights of the run that was not cut
    off, and returns a finished one as it is.
    """
    from alexnet_keras.training.progress_callback import TrainingProgress

    def interrupt(callback, step, logs=None):
        if step == 1:
            raise KeyboardInterrupt

    options = {"data": files / "tree", "lr_mult": ["fc8=2"], "verbose": 0, **TINY}
    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_train_batch_end", interrupt)
        run = alexnet_keras.scratch(output=tmp_path / "run", **options)
    assert (run.result["finished"], run.result["steps"]) == (False, 2)
    resumed = alexnet_keras.resume(run, verbose=0)
    whole = alexnet_keras.Run(files / "run")
    assert timeless(resumed.result) == timeless(whole.result)
    assert timeless(resumed.history) == timeless(whole.history)
    for one, other in zip(resumed.model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    again = alexnet_keras.resume(str(run.folder), verbose=0)
    assert (again.folder, again.result) == (resumed.folder, resumed.result)
    longer = alexnet_keras.resume(run, steps=4, verbose=0)
    assert longer.result["steps"] == 4


def test_what_a_resumed_run_keeps(files):
    with pytest.raises(ConfigurationError, match="^--seed: cannot change when a run is resumed"):
        alexnet_keras.resume(files / "run", seed=3)


@pytest.mark.parametrize("leftovers", [(), (".lock", "samples.csv.gz", ".part-1-a-b")])
@pytest.mark.parametrize("keyword", ["output", pytest.param("resume", marks=pytest.mark.slow)])
def test_a_run_killed_before_its_config_is_begun_again(
    files, tmp_path, caplog, keyword, leftovers
):
    run = tmp_path / "run"
    run.mkdir()
    for name in leftovers:
        (run / name).write_bytes(b"half")
    begun = alexnet_keras.scratch(
        data=files / "tree", verbose=0, **{**TINY, "epochs": None, "steps": 1, keyword: run}
    )
    assert (begun.folder, begun.result["steps"]) == (run, 1)
    assert not list(run.glob(".part-*"))
    told = f"{run}: holds no config.json; the run starts from the beginning, with the options"
    assert (told in caplog.text) == (keyword == "resume")


def test_no_folder_is_begun_again_that_is_in_use_or_no_runs(files, tmp_path):
    with RunFolder(tmp_path), pytest.raises(RunError, match="another process is using this run$"):
        alexnet_keras.scratch(data=files / "tree", resume=tmp_path, verbose=0, **TINY)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(RunError, match="expected a run folder; got no config.json$"):
        alexnet_keras.scratch(data=files / "tree", resume=tmp_path, verbose=0, **TINY)
    with pytest.raises(RunError, match="expected an empty folder, got one with notes.txt"):
        alexnet_keras.scratch(data=files / "tree", output=tmp_path, verbose=0, **TINY)
    (tmp_path / "notes.txt").unlink()
    with pytest.raises(ConfigurationError, match="^output: expected none with resume, which"):
        alexnet_keras.scratch(data=files / "tree", resume=tmp_path, output="other", verbose=0)


def test_a_damaged_mode(files, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"mode": "extract"}))
    with pytest.raises(RunError, match="mode: expected scratch or transfer, got 'extract'$"):
        alexnet_keras.resume(tmp_path)


# Progress.


@pytest.mark.slow
def test_progress_is_shown_as_keras_shows_it(files, tmp_path, capsys):
    for verbose, lines in ((0, []), (2, ["scratch: 6 train", "epoch 1/1  loss", f"{tmp_path}/"])):
        alexnet_keras.scratch(
            data=files / "tree",
            output=tmp_path / str(verbose),
            verbose=verbose,
            **{**TINY, "epochs": 1},
        )
        printed = capsys.readouterr()
        assert printed.err == ""
        found = printed.out.splitlines()
        assert len(found) == len(lines)
        assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


@pytest.mark.slow
def test_warnings_from_before_the_run_folder_are_in_its_log(files, tmp_path, monkeypatch):
    from alexnet_keras.training import session_start

    def open_data(options, opened=session_start.open_data):
        logging.getLogger("alexnet_keras.data").warning("3 files with suffix .webp are skipped")
        return opened(options)

    monkeypatch.setattr(session_start, "open_data", open_data)
    run = alexnet_keras.scratch(
        data=files / "tree", output=tmp_path / "run", verbose=0, **{**TINY, "epochs": 1}
    )
    (line, *_) = (run.folder / "run.log").read_text().splitlines()
    assert line.endswith("WARNING 3 files with suffix .webp are skipped")


# What follows a run.


def test_transfer_extract_evaluate_and_predict(files, tmp_path, capsys):
    run = alexnet_keras.Run(files / "run")
    moved = alexnet_keras.transfer(
        data=files / "tree", weights=run, steps=1, output=tmp_path / "moved", verbose=0
    )
    assert (moved.config["mode"], moved.result["steps"]) == ("transfer", 1)

    evaluation = alexnet_keras.evaluate(run, verbose=0, out=tmp_path / "tables")
    assert evaluation.top1 == run.result["top1"]
    assert (tmp_path / "tables" / "confusion.csv").is_file()

    picture = files / "tree" / "val" / "cat" / "0.jpg"
    found = alexnet_keras.predict(picture, weights=run, top=2, verbose=0)
    assert found.probabilities.shape == (1, 3)
    assert (len(found.top), len(found.top[0])) == (1, 2)
    best = found.top[0][0]
    index = int(found.probabilities[0].argmax())
    assert best == (str(index), found.class_names[index], found.probabilities[0, index])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_features_are_arrays_by_layer_and_a_table(files, tmp_path, suffix):
    features = alexnet_keras.extract(
        data=files / "tree",
        weights=files / "run",
        layers=["pool5", "fc7"],
        out=tmp_path / f"f{suffix}",
        probe=True,
        verbose=0,
    )
    assert list(features) == ["pool5", "fc7"]
    assert features["pool5"].shape[:3] == (12, 6, 6)
    assert isinstance(features["fc7"], np.memmap)
    assert features["fc7"].dtype == np.float32
    assert not features["fc7"].flags.writeable
    assert features.rows["row"] == list(range(12))
    assert features.rows["class"][:3] == ["cat", "cat", "dog"]
    assert features.rows["label"][:3] == [0, 0, 1]
    assert features.probes["fc7"].images == 6


def test_a_terminated_extraction_leaves_nothing(files, tmp_path, monkeypatch):
    from alexnet_keras.features import array_files

    def terminate(writer, layer, block):
        assert (tmp_path / "f.unfinished" / "f.npy").exists()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(array_files.NpyFiles, "append", terminate)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ("--data", files / "tree", "--weights", files / "run", "--out", tmp_path / "f.npy")
    result = invoke("extract", *arguments)
    assert (result.exit_code, result.stderr) == (143, "terminated\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


# What cannot be predicted.


def test_a_missing_image_is_found_out_before_the_weights_are(files):
    with pytest.raises(DataError, match=r"^nowhere\.jpg: expected an image file, got nothing$"):
        alexnet_keras.predict("nowhere.jpg", weights="no such weights")


def test_a_folder_is_its_images(files):
    folder = files / "tree" / "val" / "cat"
    found = alexnet_keras.predict(folder, weights=files / "run", verbose=0)
    named = alexnet_keras.predict(sorted(folder.iterdir()), weights=files / "run", verbose=0)
    assert found.images == named.images
    np.testing.assert_array_equal(found.probabilities, named.probabilities)


@pytest.mark.slow
def test_a_run_remembers_the_files_that_it_could_not_read(tmp_path):
    class_folders(tmp_path / "tree", count=2)
    classes = sorted(path for path in (tmp_path / "tree" / "train").iterdir())
    sound = next(classes[0].iterdir())
    for number in range(100):
        (classes[0] / f"more{number}.jpg").hardlink_to(sound)
    bad = classes[0] / "bad.jpg"
    bad.write_bytes(sound.read_bytes()[:-50])
    (classes[0] / "note.webp").write_bytes(b"")
    options = TINY | {"batch_size": 16, "epochs": 1}
    run = tmp_path / "run"
    alexnet_keras.scratch(data=tmp_path / "tree", output=run, verbose=0, **options)
    (row,) = read_rows(run / "bad_files.csv")
    assert (row["split"], row["id"], row["path"]) == (
        "train",
        f"{classes[0].name}/bad.jpg",
        str(bad),
    )
    log = (run / "run.log").read_text()
    assert log.count(f"{bad}: skipped, not a readable image") == 1
    assert "1 files were not read as images: .webp 1" in log
    alexnet_keras.resume(run, epochs=2, verbose=0)
    assert (run / "run.log").read_text().count("skipped, not a readable image") == 1
    assert len(read_rows(run / "bad_files.csv")) == 1


def read_rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
