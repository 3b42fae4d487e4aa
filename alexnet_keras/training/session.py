"""What the training commands share: workers, data, a new run folder or one that goes on, and how
it ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import click

from alexnet_keras import __version__
from alexnet_keras.cli.options import INTERRUPTED, open_data
from alexnet_keras.cli.printing import print_evaluation, say
from alexnet_keras.cli.recipe_options import CHANGEABLE, augmentation_of, continued, recipe_of
from alexnet_keras.errors import ConfigurationError, DataError, RunError

DATA_OPTIONS = ("data", "layout", "classes", "min_size", "context", "square", "num_threads")
UNRECORDED = ("resume", "output", "overwrite")


@dataclass
class Session:
    """What a training command works with. ``options``: those that hold, of the command line or of
    the run that goes on; ``changed``: those given for its continuation; ``config``: that run's
    own, None for a new one.
    """

    mode: str
    options: dict
    changed: dict
    workers: object
    config: dict | None = None
    folder: object = None  # the Run that goes on, on the chief
    dataset: object = None
    loading: object = None
    execution: object = None
    callbacks: tuple = ()

    def recipe(self, base, complete=lambda recipe: recipe):
        """The recipe to follow: that of the run which goes on, or the one asked for, or ``base``,
        changed by the options.
        """
        from alexnet_keras.configs.recipe import RECIPES, Recipe

        if self.config is not None:
            try:
                recipe = Recipe.from_dict(self.config["recipe"])
                if self.mode == "scratch" and recipe.preprocessing is None:
                    raise ConfigurationError(
                        "recipe: preprocessing: got None, which no run writes"
                    )
            except ConfigurationError as error:
                raise RunError(
                    f"{Path(self.options['resume']) / 'config.json'}: {error}"
                ) from None
            recipe = continued(recipe, self.changed)
            self._check_unfinished(recipe)
            return recipe
        train = self.dataset.samples("train")
        asked = RECIPES[self.options["recipe"]] if self.options["recipe"] else base
        return complete(
            augmentation_of(recipe_of(asked, len(train), self.options), self.options, train.paths)
        )

    @contextmanager
    def run(self, recipe, **config) -> Iterator[object]:
        """The run folder, its log and its progress; a follower's, which writes nothing, on all
        workers but the chief.
        """
        from alexnet_keras.cli.console import log_to
        from alexnet_keras.training.run_folder import Follower

        self._check_trainable(recipe, config["architecture"])
        if not self.workers.is_chief:
            self.execution = self._execution(None, recipe, config)
            say(f"worker {self.workers.index} of {self.workers.count}: the chief writes the run")
            yield Follower()
            return
        run = self._opened(recipe, config)
        with run, log_to(run.folder / "run.log"):
            self.execution = self._execution(run, recipe, config)
            self.callbacks = tuple(self._callbacks(run))
            train, val = (self.dataset.samples(split) for split in ("train", "val"))
            say(
                f"{self.mode}: {len(train)} train and {len(val)} val samples of "
                f"{len(self.dataset.class_names)} classes "
                f"from {self.dataset.name}; writing {run.folder}"
            )
            self.label = str(run.folder)
            yield run

    def report(self, outcome) -> None:
        """Print what came out, and end the program if it was interrupted."""
        if self.workers.is_chief:
            print_evaluation(outcome.evaluation, self.label)
        if not outcome.finished:
            sys.exit(INTERRUPTED)

    def check_same_weights(self, weights: dict) -> None:
        """A run goes on only with the weights that it began with."""
        began = (self.config or {}).get("weights", weights)
        if began != weights:
            raise RunError(
                f"{weights['source']}: expected the weights that the run began with (sha256 "
                f"{began['sha256']}), "
                f"got sha256 {weights['sha256']}"
            )

    def _check_trainable(self, recipe, architecture) -> None:
        """What training would refuse, before a folder is made for it."""
        from alexnet_keras.configs.architecture import Architecture
        from alexnet_keras.data.batches import check_batch_size
        from alexnet_keras.training.train_step import check_layer_names

        check_layer_names(recipe.multipliers, Architecture.from_dict(architecture).weighted_names)
        check_batch_size(
            recipe.batch_size,
            self.workers.strategy.num_replicas_in_sync * self.options["accumulate"],
        )

    def _opened(self, recipe, config):
        from alexnet_keras.training.run_folder import new_run

        if self.folder is not None:
            self.folder.check_unchanged_data(self.samples, self.dataset.root)
            self.folder.note_continuation(self.changed, recipe.to_dict())
            return self.folder
        output = self.options["output"]
        run = new_run(output and Path(output), self.mode, self.options["overwrite"])
        run.write_config(self._described(recipe, config), self.samples)
        return run

    def _described(self, recipe, config) -> dict:
        region = self.loading.region
        recorded = {name: value for name, value in self.options.items() if name not in UNRECORDED}
        return {
            "mode": self.mode,
            "data": self.dataset.describe() | {"region": region and vars(region)},
            "seed": self.options["seed"],
            "options": recorded,
            "recipe": recipe.to_dict(),
            **config,
        }

    def _execution(self, run, recipe, config):
        from alexnet_keras.training.loop import Execution

        checkpoints = run and run.checkpoints(self.options["keep"])
        checkpoint = checkpoints.newest() if self.config is not None and run else None
        found = self.workers.exchange({"found": checkpoint is not None})[0]["found"]
        if self.config is not None and run:
            say(
                f"going on from {checkpoint.path}, the newest whole checkpoint: step "
                f"{checkpoint.state['step']}"
                if checkpoint
                else f"{run.folder}: no whole checkpoint was saved; starting again from "
                "config.json"
            )
        about = {
            "mode": self.mode,
            "variant": config["architecture"]["name"],
            "classes": len(self.dataset.class_names),
            "seed": self.options["seed"],
            "batch size": recipe.batch_size,
        }
        return Execution(
            self.workers,
            self.options["accumulate"],
            checkpoints,
            self.options["save_every"],
            found,
            checkpoint,
            about,
            self._described(recipe, config),
        )

    def _callbacks(self, run) -> Iterator[object]:
        from alexnet_keras.cli.progress_bar import TrainingProgress

        yield TrainingProgress()
        if self.options["tensorboard"]:
            from alexnet_keras.training.tensorboard import TensorBoardLog

            yield TensorBoardLog(run.folder / "tensorboard")

    def _check_unfinished(self, recipe) -> None:
        from alexnet_keras.training.run_folder import finished_steps

        steps = self.folder and finished_steps(self.folder.folder)
        if steps is not None and steps >= recipe.last_step(len(self.dataset.samples("train"))):
            raise RunError(
                f"{self.folder.folder}: this run is finished, after {steps} steps; it goes on "
                "with more --epochs "
                "or --steps than it had"
            )


@contextmanager
def open_session(mode: str, given: dict) -> Iterator[Session]:
    """Join the workers, take up the run that ``--resume`` names, and open its data or those of the
    options.
    """
    import keras

    from alexnet_keras.distribute.workers import open_workers
    from alexnet_keras.models.backends import winograd

    changed = _changed(given)
    workers = open_workers(given["strategy"], given["worker_timeout"])
    session = Session(mode, given, changed, workers)
    policy = keras.config.dtype_policy()
    try:
        _agree(session)
        _set_numerics(session.options)
        _open_data(session)
        yield session
    finally:
        keras.config.set_dtype_policy(policy)
        winograd.allow(True)
        if session.folder is not None:
            session.folder.close()


def _changed(given: dict) -> dict:
    """The options that the command line gives; with ``--resume`` only some are allowed."""
    context = click.get_current_context()
    changed = {
        name: value
        for name, value in given.items()
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    fixed = [name for name in changed if name not in CHANGEABLE]
    if given["resume"] and fixed:
        raise ConfigurationError(
            f"{_option(fixed[0])}: a continued run keeps the one it began with; only "
            f"{', '.join(_option(name) for name in given if name in CHANGEABLE[:-1])} may change"
        )
    return changed


def _option(name: str) -> str:
    return next(
        parameter.opts[0]
        for parameter in click.get_current_context().command.params
        if parameter.name == name
    )


def _agree(session: Session) -> None:
    """Take up the run that the chief is to go on with, and the chief's options; those of another
    worker's own command line stay, since its paths may differ.
    """
    from alexnet_keras.training.run_folder import resumed_run

    if session.options["resume"] and session.workers.is_chief:
        session.folder, session.config = resumed_run(Path(session.options["resume"]), session.mode)
    given, changed = (
        {name: value for name, value in options.items() if name not in UNRECORDED}
        for options in (session.options, session.changed)
    )
    chief = session.workers.exchange(
        {"config": session.config, "given": given, "changed": changed}
    )[0]
    session.config, session.changed = chief["config"], {**chief["changed"], **changed}
    recorded = _recorded(session) if session.config else chief["given"]
    session.options = {**session.options, **recorded, **session.changed}
    session.options |= {name: tuple(session.options[name]) for name in ("classes", "lr_mult")}


def _recorded(session: Session) -> dict:
    """The options of the run's config, which must be such as the command line gives."""
    context, recorded = click.get_current_context(), {}
    for parameter in context.command.params:
        name, default = parameter.name, parameter.get_default(context)
        value = session.config["options"].get(name, default)
        try:
            if value is None and isinstance(default, str | int | float):
                raise TypeError
            recorded[name] = parameter.type_cast_value(context, value)
        except (click.BadParameter, TypeError, ValueError, AttributeError):
            raise RunError(
                f"{Path(session.options['resume']) / 'config.json'}: options.{name}: got "
                f"{value!r}, which no "
                "run writes"
            ) from None
    return {name: value for name, value in recorded.items() if name not in UNRECORDED}


def _set_numerics(options: dict) -> None:
    import keras
    import tensorflow as tf

    from alexnet_keras.models.backends import winograd

    keras.config.set_dtype_policy(options["precision"])
    winograd.allow(not options["direct_convolution"])
    if options["deterministic"]:
        tf.config.experimental.enable_op_determinism()


def _open_data(session: Session) -> None:
    """Open the data set, and make sure that all workers see the same one, with the same options
    and versions.
    """
    from alexnet_keras.data import manifest
    from alexnet_keras.data.batches import Shard

    session.dataset, session.loading = open_data(
        **{name: session.options[name] for name in DATA_OPTIONS}
    )
    _check_splits(session.dataset)
    shard = Shard(session.workers.index, session.workers.count)
    session.loading = replace(session.loading, shard=shard)
    parts = [session.dataset.samples(split) for split in ("train", "val")]
    session.samples = manifest.sample_table(session.dataset.root, parts)
    options = {
        _option(name): value
        for name, value in session.options.items()
        if name not in (*UNRECORDED, "data")
    }
    session.workers.require_equal(
        {
            "alexnet_keras": __version__,
            **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
            **options,
            "the data set": manifest.digest(session.samples),
        }
    )


def _check_splits(dataset) -> None:
    """A mode that learns needs both splits; found out before anything is loaded or written."""
    for split in ("train", "val"):
        if not any(name.startswith(split) for name in dataset.split_names):
            raise DataError(
                f"{dataset.root}: expected a train split to learn from and a val split to "
                "measure on, "
                f"got only {', '.join(dataset.split_names)}"
            )
        dataset.samples(split)
