"""A training run: its folder, config, result, history and model."""

from __future__ import annotations

import functools
import json
import os
from contextlib import suppress
from pathlib import Path

from alexnet_keras.errors import RunError
from alexnet_keras.models.alexnet import AlexNetModel
from alexnet_keras.models.saving import load_model
from alexnet_keras.training.run_config import read_config, read_result


class Run:
    """A run of ``scratch`` or ``transfer``; ``Run("runs/scratch-1")`` opens an existing one.

    Attributes:
        folder: ``pathlib.Path`` of the run folder; None on a worker that is not the chief.
        result: the content of ``result.json`` (fractions 0-1, ``steps``, ``finished``); empty if
            the run has not written it. ``finished`` is False after Ctrl-C.

    A run can be passed wherever a path is expected, such as ``weights=run``. Raises ``RunError``
    for a folder that is not a run folder.

    Example::

        run = alexnet_keras.scratch(data="photographs", epochs=30)
        run.result["top1"], run.history["val_loss"], run.model.summary()
    """

    def __init__(self, folder: str | os.PathLike | None, result: dict | None = None):
        self.folder = None if folder is None else Path(folder)
        if result is None:
            read_config(self._folder)
            result = read_result(self._folder)
        self.result = result or {}

    def __fspath__(self) -> str:
        return os.fspath(self._folder)

    def __repr__(self) -> str:
        state = "finished" if self.result.get("finished") else "not finished"
        return f"<Run {self.folder}: {state}>"

    @property
    def config(self) -> dict:
        """The content of ``config.json``: options, data, recipe, architecture, environment."""
        return read_config(self._folder)

    @property
    def history(self) -> dict[str, list]:
        """The metrics of each epoch in ``metrics.jsonl``, as one list for each of ``epoch``,
        ``loss``, ``top1``, ``val_top1`` and the others; None where an epoch has no such metric.
        """
        rows = [row for row in self._metrics() if row.get("event") == "epoch"]
        names = dict.fromkeys(name for row in rows for name in row if name != "event")
        return {name: [row.get(name) for row in rows] for name in names}

    @functools.cached_property
    def model(self) -> AlexNetModel:
        """The final model, from ``model.keras``, loaded on first use. Raises ``WeightsError``."""
        return load_model(self._folder)

    def _metrics(self) -> list[dict]:
        try:
            lines = (self._folder / "metrics.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            # A kill may leave a partial line.
            with suppress(ValueError, RecursionError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            raise RunError("run: expected the chief, which has the run folder, got another worker")
        return self.folder
