"""Reading and writing ``config.json`` and ``result.json`` of a run folder; a file that is read may
be damaged.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import tensorflow as tf

from alexnet_keras import __version__
from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.errors import RunError

CONFIG = "config.json"
RESULT = "result.json"
OPTION_TYPES = {
    "data": (str, "a string"),
    "layout": (str, "a string"),
    "classes": (list | None, "a list or null"),
    "min_size": (int | float, "a number"),
    "context": (int | float, "a number"),
    "square": (bool, "true or false"),
}


def read_config(folder: Path) -> dict:
    """The config of a run folder. Raises ``RunError``."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RunError(f"{folder}: expected a run folder; got no config.json") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: expected the config of a run, got: {error}") from None
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected the config of a run, got {type(config).__name__}")
    return config


def read_mode(folder: Path) -> str:
    """``scratch`` or ``transfer``, as the run's config says. Raises ``RunError``."""
    mode = read_config(folder).get("mode")
    if mode not in ("scratch", "transfer"):
        raise RunError(f"{folder / CONFIG}: mode: expected scratch or transfer, got {mode!r}")
    return mode


def read_result(folder: Path) -> dict | None:
    """The result of a run folder; None if there is none, or if it is damaged."""
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        complete = type(result["steps"]) is int and type(result["finished"]) is bool
        return result if complete else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def recorded_data_options(folder: Path) -> dict:
    """The data options recorded in a run's config: ``data``, ``layout``, ``classes``,
    ``min_size`` and the region of boxes. Raises ``RunError``.
    """
    path = folder / CONFIG
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["data"]
        built_in = (
            recorded["name"] in DEMONSTRATIONS and Path(recorded["root"]).name != recorded["name"]
        )
        options = {
            "data": recorded["name"] if built_in else recorded["root"],
            "layout": recorded["layout"],
        }
        if recorded["layout"] == "coco":
            options |= {
                "classes": recorded["classes"],
                "min_size": recorded["min_size"],
                **recorded["region"],
            }
        wrong = [
            name for name, value in options.items() if not isinstance(value, OPTION_TYPES[name][0])
        ]
    except OSError:
        raise RunError(f"{folder}: expected a run folder, or --data; got no config.json") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: expected the config of a run, got: {error!r}") from None
    if wrong:
        name = wrong[0]
        raise RunError(
            f"{path}: data.{name}: expected {OPTION_TYPES[name][1]}, got {options[name]!r}"
        )
    return options


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file completely or not at all. Raises ``RunError``."""
    with atomic_write(path) as (partial,):
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def runtime_environment() -> dict:
    """The versions and the number of threads that bit-identical results depend on."""
    packages = ("tensorflow", "keras", "numpy")
    return {
        "alexnet_keras": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "threads": num_intra_op_threads(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }


def num_intra_op_threads() -> int:
    """The number of threads that TensorFlow uses within one operation."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (int(asked) if asked.isdecimal() else 0)
        or usable
    )
