"""How a session starts: the workers join and agree on the options and the data."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from alexnet_keras import __version__
from alexnet_keras.configs.loading import Shard
from alexnet_keras.configs.option_fields import options_of, read_options
from alexnet_keras.configs.options import (
    NOT_RECORDED,
    ScratchOptions,
    TransferOptions,
    recorded_options,
)
from alexnet_keras.data import manifest
from alexnet_keras.data.from_options import open_data
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.models.backends import winograd
from alexnet_keras.progress import Progress
from alexnet_keras.training.run_folder import is_unconfigured, resume_run_folder
from alexnet_keras.training.run_log import collect_warnings
from alexnet_keras.training.session import Session

logger = logging.getLogger(__name__)


@contextmanager
def open_session(
    mode: str, declared: type, values: Mapping[str, Any], verbose: str | int
) -> Iterator[Session]:
    """Join the workers, open the run that ``resume`` names, and the data set of that run or of the
    options.

    ``declared``: the options dataclass of ``mode``; ``values``: the options that the call passes.
    The dtype policy and the choice of convolution of the process are restored at the end.
    """
    progress = Progress(verbose)
    options = read_options(declared, values)
    explicit = {
        name: getattr(options, name) for name, value in values.items() if value is not None
    }
    policy = keras.config.dtype_policy()
    with collect_warnings() as log:
        workers = open_workers(options.strategy, options.worker_timeout)
        session = Session(mode, options, explicit, workers, progress, log)
        try:
            _agree_on_options(session)
            _set_numerics(session.options)
            _open_same_data(session)
            yield session
        finally:
            keras.config.set_dtype_policy(policy)
            winograd.set_enabled(True)
            for folder in (session.resumed, session.reserved):
                if folder is not None:
                    folder.close()


def _agree_on_options(session: Session) -> None:
    """Give every worker the config of the run that the chief resumes, and the chief's options,
    except those that a worker passes itself, since its paths may differ.
    """
    if session.workers.is_chief:
        _find_resumed_run(session)
    chief = session.workers.all_gather(
        {
            "config": session.config,
            "options": recorded_options(dataclasses.asdict(session.options)),
            "explicit": recorded_options(session.explicit),
        }
    )[0]
    session.config = chief["config"]
    options = {**dataclasses.asdict(session.options), **chief["options"]}
    named = {**chief["explicit"], **session.explicit}
    if session.config is not None:
        of_run = _options_of_run(session)
        named = _changes(type(session.options), named, of_run)
        options |= of_run
    session.explicit = recorded_options(named)
    session.options = read_options(type(session.options), {**options, **session.explicit})


def _find_resumed_run(session: Session) -> None:
    """Open the folder and config of the run to resume. A run that was killed before it wrote its
    config is restarted in its folder.
    """
    options = session.options
    if options.resume is None:
        return
    folder = Path(options.resume)
    if not is_unconfigured(folder):
        session.resumed, session.config = resume_run_folder(folder, session.mode)
        return
    if options.output is not None:
        raise ConfigurationError(
            f"output: expected none with resume, which restarts the run in {folder}, got "
            f"{options.output}"
        )
    logger.warning(
        "%s: holds no config.json; the run starts from the beginning, with the options given here",
        folder,
    )
    session.options = dataclasses.replace(options, output=options.resume, resume=None)


def _changes(declared: type, named: dict, of_run: dict) -> dict:
    """The options that a call passes to change those of the run. One that cannot change may be
    repeated with the same value, so that a job can be requeued with the same command.
    """
    options = options_of(declared)
    changes = {}
    for name, value in named.items():
        option = options[name]
        if option.changeable:
            changes[name] = value
        elif name != "resume" and (name not in of_run or option.convert(value) != of_run[name]):
            changeable = [each.flag for each in options.values() if each.changeable]
            raise ConfigurationError(
                f"{option.flag}: cannot change when a run is resumed; only "
                f"{', '.join(changeable)} can"
            )
    return changes


def _options_of_run(session: Session) -> dict:
    """The options in the run's config, validated like those of a call."""
    options = {}
    of_run = session.config["options"]
    for name, option in options_of(type(session.options)).items():
        if name in NOT_RECORDED:
            continue
        try:
            options[name] = option.convert(of_run.get(name, option.default))
        except ConfigurationError as error:
            raise RunError(f"{session.config_path}: options.{error}") from None
    return options


def _set_numerics(options: ScratchOptions | TransferOptions) -> None:
    keras.config.set_dtype_policy(options.precision)
    winograd.set_enabled(not options.direct_convolution)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()


def _open_same_data(session: Session) -> None:
    """Open the data set, and check that all workers have the same data, options and versions."""
    session.dataset, loading = open_data(session.options)
    _check_splits(session.dataset)
    shard = Shard(session.workers.index, session.workers.count)
    session.loading = dataclasses.replace(loading, shard=shard)
    splits = [session.dataset.samples(split) for split in ("train", "val")]
    session.samples = manifest.sample_table(session.dataset.root, splits)
    options = recorded_options(dataclasses.asdict(session.options))
    session.workers.check_equal(
        {
            "alexnet_keras": __version__,
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
            **{
                option.flag: options[name]
                for name, option in options_of(type(session.options)).items()
                if name in options and name != "data"
            },
            "data set": manifest.digest(session.samples),
        }
    )


def _check_splits(dataset: Dataset) -> None:
    """Check that there are both splits, before anything is loaded or written."""
    for split in ("train", "val"):
        if not any(name.startswith(split) for name in dataset.split_names):
            raise DataError(
                f"{dataset.root}: expected train and val splits, got only "
                f"{', '.join(dataset.split_names)}"
            )
        dataset.samples(split).check_labelled("training")
    if len(dataset.class_names) < 2:
        raise DataError(
            f"{dataset.root}: expected two or more classes, got {len(dataset.class_names)}"
        )
