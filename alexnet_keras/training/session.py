"""A training run from options to its result: what ``scratch`` and ``transfer`` have in common.

:func:`~alexnet_keras.training.session_start.open_session` opens one. Then the recipe is chosen, a
run folder is created or resumed, and the outcome is returned as a
:class:`~alexnet_keras.training.run.Run`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.options import ScratchOptions, TransferOptions, recorded_options
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.bad_files import BadFiles
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.steps import check_batch_size
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.progress import Progress
from alexnet_keras.training.loop import ExecutionConfig, TrainingResult
from alexnet_keras.training.mean_image import needs_pass, with_computed_mean, with_given_mean
from alexnet_keras.training.progress_callback import TrainingProgress
from alexnet_keras.training.recipe_from_options import new_recipe, resumed_recipe
from alexnet_keras.training.run import Run
from alexnet_keras.training.run_config import CONFIG, read_result
from alexnet_keras.training.run_folder import (
    BAD_FILES,
    NullRunFolder,
    RunFolder,
    new_run_folder,
    result_of,
)
from alexnet_keras.training.run_log import RunLog
from alexnet_keras.training.tensorboard import TensorBoardLog
from alexnet_keras.training.train_step import check_layer_names


@dataclass
class Session:
    """A call of ``scratch`` or ``transfer`` in progress.

    ``options``: the effective options: those of the call, or those of a resumed run with the
    changes of the call. ``explicit``: the options that the call itself passes. ``config``: that of
    the resumed run, None for a new one. ``resumed``: its folder; ``reserved``: that of a new run,
    before it has a config; only the chief has either.
    ``samples``: the manifest of the data set.
    """

    mode: str
    options: ScratchOptions | TransferOptions
    explicit: dict[str, Any]
    workers: Workers
    progress: Progress
    log: RunLog
    config: dict | None = None
    resumed: RunFolder | None = None
    reserved: RunFolder | None = None
    dataset: Dataset | None = None
    loading: Loading = Loading()
    samples: str = ""
    execution: ExecutionConfig | None = None
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)
    folder: Path | None = None

    def choose_recipe(self, base: Recipe) -> Recipe:
        """The recipe of the resumed run; for a new run, ``base`` changed by the options."""
        if self.config is None:
            return new_recipe(base, self.options, self.dataset.samples("train"))
        try:
            recipe = Recipe.from_dict(self.config["recipe"])
            if self.mode == "scratch" and recipe.preprocessing is None:
                raise ConfigurationError("recipe.preprocessing: expected an object, got None")
        except ConfigurationError as error:
            raise RunError(f"{self.config_path}: {error}") from None
        return resumed_recipe(recipe, self.explicit)

    def with_mean(self, recipe: Recipe, architecture: Architecture) -> Recipe:
        """The recipe of a new run with the mean that the options or the recipe itself ask for.

        A mean image is computed from the train split, once everything has been refused that would
        be refused afterwards.
        """
        recipe = with_given_mean(recipe, self.options.mean, self.workers)
        if not needs_pass(recipe):
            return recipe
        self._check_trainable(recipe, architecture)
        if self.workers.is_chief:
            self.reserved = self._new_folder()
        bad_files = BadFiles(self.reserved and self.reserved.path / BAD_FILES)
        self.loading = dataclasses.replace(self.loading, bad_files=bad_files)
        train = self.dataset.samples("train")
        return with_computed_mean(recipe, train, self.loading, self.workers, self.progress)

    def finished_run(self, recipe: Recipe) -> Run | None:
        """The resumed run if it already has all steps of ``recipe``, on every worker."""
        if self.config is None:
            return None
        result = read_result(self.resumed.path) if self.resumed else None
        last_step = recipe.total_steps(len(self.dataset.samples("train")))
        if result and not (result["finished"] and result["steps"] >= last_step):
            result = None
        result = self.workers.all_gather({"result": result})[0]["result"]
        if result is None:
            return None
        path = self.resumed and self.resumed.path
        self.progress.print(
            f"{path or 'the run'}: finished already, after {result['steps']} steps; more --epochs "
            "or --steps train it further"
        )
        return Run(path, result)

    def check_same_weights(self, weights: dict) -> None:
        """Raise ``RunError`` if a run is resumed with other weights than it began with, or another
        mean image.
        """
        began = (self.config or {}).get("weights", weights)
        digests = [each.get("mean_image_sha256") for each in (began, weights)]
        if digests[0] != digests[1]:
            raise RunError(
                f"{weights['source']}: expected the mean image that the run began with (sha256 "
                f"{digests[0]}), got sha256 {digests[1]}"
            )
        if began != weights:
            raise RunError(
                f"{weights['source']}: expected the weights that the run began with (sha256 "
                f"{began['sha256']}), got sha256 {weights['sha256']}"
            )

    @contextmanager
    def run_folder(self, recipe: Recipe, **config) -> Iterator[RunFolder | NullRunFolder]:
        """The run folder, with its log, callbacks and ``execution``; on all workers but the chief
        one that writes nothing.
        """
        self._check_trainable(recipe, Architecture.from_dict(config["architecture"]))
        if not self.workers.is_chief:
            self.execution = self._execution(None, recipe, config)
            self.progress.print(
                f"worker {self.workers.index} of {self.workers.count}: only the chief writes the "
                "run folder"
            )
            yield NullRunFolder()
            return
        run = self._open_folder(recipe, config)
        self.folder = run.path
        with run, self.log.write_to(run.path / "run.log"):
            self.execution = self._execution(run, recipe, config)
            bad_files = BadFiles(run.path / BAD_FILES)
            self.loading = dataclasses.replace(self.loading, bad_files=bad_files)
            self.callbacks = [TrainingProgress(self.progress)]
            if self.options.tensorboard:
                self.callbacks.append(TensorBoardLog(run.path / "tensorboard"))
            train = self.dataset.samples("train")
            val = self.dataset.samples("val")
            self.progress.print(
                f"{self.mode}: {len(train)} train and {len(val)} val samples of "
                f"{len(self.dataset.class_names)} classes from {self.dataset.name}; writing "
                f"{run.path}"
            )
            yield run

    def result(self, outcome: TrainingResult) -> Run:
        """Print the evaluation, and return the finished or interrupted run."""
        if self.workers.is_chief:
            self.progress.show_evaluation(outcome.evaluation, str(self.folder))
        return Run(self.folder, result_of(outcome))

    @property
    def config_path(self) -> Path:
        return Path(self.options.resume) / CONFIG

    def _check_trainable(self, recipe: Recipe, architecture: Architecture) -> None:
        """Raise what training would raise, before a folder is created."""
        check_layer_names(recipe, architecture.weighted_layer_names)
        check_batch_size(
            recipe.batch_size,
            self.workers.strategy.num_replicas_in_sync * self.options.accumulate,
        )

    def _open_folder(self, recipe: Recipe, config: dict) -> RunFolder:
        if self.resumed is not None:
            self.resumed.check_unchanged_data(self.samples, self.dataset.root)
            self.resumed.record_resumption(recorded_options(self.explicit), recipe.to_dict())
            return self.resumed
        run = self.reserved or self._new_folder()
        run.write_config(self._full_config(recipe, config), self.samples)
        return run

    def _new_folder(self) -> RunFolder:
        output = self.options.output and Path(self.options.output)
        return new_run_folder(output, self.mode, self.options.overwrite)

    def _full_config(self, recipe: Recipe, config: dict) -> dict:
        region = self.loading.region
        return {
            "mode": self.mode,
            "data": self.dataset.describe() | {"region": region and vars(region)},
            "seed": self.options.seed,
            "options": recorded_options(dataclasses.asdict(self.options)),
            "recipe": recipe.to_dict(),
            **config,
        }

    def _execution(self, run: RunFolder | None, recipe: Recipe, config: dict) -> ExecutionConfig:
        checkpoints = run and run.checkpoints(self.options.keep)
        checkpoint = checkpoints.newest() if self.config is not None and run else None
        found = self.workers.all_gather({"found": checkpoint is not None})[0]["found"]
        if self.config is not None and run:
            self.progress.print(
                f"resuming from {checkpoint.path}, the newest complete checkpoint: step "
                f"{checkpoint.state['step']}"
                if checkpoint
                else f"{run.path}: no complete checkpoint was saved; restarting from config.json"
            )
        identity = {
            "mode": self.mode,
            "variant": config["architecture"]["name"],
            "classes": len(self.dataset.class_names),
            "seed": self.options.seed,
            "batch size": recipe.batch_size,
        }
        return ExecutionConfig(
            self.workers,
            self.options.accumulate,
            checkpoints,
            self.options.save_every,
            found,
            checkpoint,
            identity,
            self._full_config(recipe, config),
        )
