"""A run as its user has it: its folder, its figures, its history and its network."""

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
    """A run of ``scratch`` or ``transfer``; ``Run("runs/scratch-1")`` opens one that is there.

    Attributes:
        folder: ``pathlib.Path`` of the run folder; None on a worker that is not the chief.
        result: the figures of ``result.json`` (fractions 0-1, ``steps``, ``finished``); empty
            where the run has written none. ``finished`` is False after Ctrl-C.

    It stands for its folder wherever a path is taken, such as in ``weights=run``. Raises
    ``RunError`` for a folder that holds no run.

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
        """What ``config.json`` records: options, data, recipe, architecture, environment."""
        return read_config(self._folder)

    @property
    def history(self) -> dict[str, list]:
        """Figures by epoch as columns, such as ``epoch``, ``loss``, ``top1`` and ``val_top1``: the
        epochs of ``metrics.jsonl``, None where an epoch lacks a figure.
        """
        rows = [row for row in self._metrics() if row.get("event") == "epoch"]
        names = dict.fromkeys(name for row in rows for name in row if name != "event")
        return {name: [row.get(name) for row in rows] for name in names}

    @functools.cached_property
    def model(self) -> AlexNetModel:
        """The final network of ``model.keras``, loaded at the first use. Raises
        ``WeightsError``.
        """
        return load_model(self._folder)

    def _metrics(self) -> list[dict]:
        try:
            lines = (self._folder / "metrics.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            with suppress(ValueError, RecursionError):  # what a kill left of a line
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]

    @property
    def _folder(self) -> Path:
        if self.folder is None:
            raise RunError("run: expected the chief, which has the run folder, got another worker")
        return self.folder
