"""One worker of a tiny run, as a program:
``python -m tests.alexnet_keras.training.elastic_worker NAME STEPS [--die INDEX STEP]``.

The working folder holds ``pictures``; TF_CONFIG says which worker it is. Writes
``<NAME>-<index>.json``: the loss of each step, the rows that this worker was given, the figures on
val; and the chief ``<NAME>.npz``, the final weights. The variable DEVICES splits the processor
into so many devices, and VARIANT names the network.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from alexnet_keras.cli.command import import_tensorflow

import_tensorflow()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from alexnet_keras.configs.architecture import VARIANTS, InitialValues  # noqa: E402
from alexnet_keras.configs.augmentation import AUGMENTATIONS  # noqa: E402
from alexnet_keras.configs.loading import Shard  # noqa: E402
from alexnet_keras.configs.preprocessing import PREPROCESSING  # noqa: E402
from alexnet_keras.configs.recipe import Recipe  # noqa: E402
from alexnet_keras.configs.schedule import DropEvery  # noqa: E402
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches  # noqa: E402
from alexnet_keras.distribute.workers import open_workers  # noqa: E402
from alexnet_keras.errors import AlexNetError  # noqa: E402
from alexnet_keras.training.checkpoints import Checkpoints  # noqa: E402
from alexnet_keras.training.loop import ExecutionConfig, train  # noqa: E402
from tests.alexnet_keras.tiny import samples_of, tiny_model  # noqa: E402

BATCH, PICTURES, TIMEOUT, DEVICES = 32, 40, 15.0, int(os.environ.get("DEVICES", "1"))


def two_devices():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES
    )
    return open_workers("mirrored")


class Told(keras.callbacks.Callback):
    """The losses; and the end of a worker that is to die."""

    def __init__(self, dies_after):
        super().__init__()
        self.losses, self.dies_after = {}, dies_after

    def on_train_batch_end(self, step, logs=None):
        self.losses[step] = logs["loss"]
        if step == self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)


class Noted:
    """Batches that remember which rows they gave."""

    def __init__(self, batches):
        self.batches, self.given = batches, {}
        self.seed, self.batch_size, self.samples = (
            batches.seed,
            batches.batch_size,
            batches.samples,
        )
        self.first_step_of = batches.first_step_of

    def iterate(self, first, last):
        for step, batch in enumerate(self.batches.iterate(first, last), first):
            self.given[step] = batch.rows.numpy().tolist()
            yield batch


def main(name, steps, dies=None, dies_after=None):
    workers = open_workers("auto", TIMEOUT) if DEVICES == 1 else two_devices()
    samples = samples_of(
        [str(Path("pictures", f"{index:03d}.jpg")) for index in range(PICTURES)], split="train"
    )
    rule = PREPROCESSING["alexnet"].with_input_size(67)
    shard = Shard(workers.index, workers.count)
    recipe = Recipe(
        "tiny",
        batch_size=BATCH,
        steps=int(steps),
        schedule=DropEvery(steps=20),
        clip_norm=1.0,
        augmentation=AUGMENTATIONS["paper"],
    )
    keras.utils.set_random_seed(0)
    network = replace(
        VARIANTS[os.environ.get("VARIANT", "alexnet")].with_width(0.05),
        initial_values=InitialValues(stddev=0.06, hidden_stddev=0.12),
    )
    with workers.strategy.scope():
        model = tiny_model(network, size=67)
    checkpoints = Checkpoints(Path(f"{name}-checkpoints")) if workers.is_chief else None
    checkpoint = checkpoints.newest() if checkpoints else None
    found = workers.all_gather({"found": checkpoint is not None})[0]["found"]
    told = Told(int(dies_after) if dies is not None and int(dies) == workers.index else None)
    batches = Noted(
        TrainingBatches(
            samples, rule, BATCH, seed=1, augmentation=recipe.augmentation, shard=shard
        )
    )
    execution = ExecutionConfig(
        workers, 1, checkpoints, save_seconds=0.0, resume=found, checkpoint=checkpoint
    )
    outcome = train(
        model,
        batches,
        recipe,
        callbacks=[told],
        execution=execution,
        val_batches=EvaluationBatches(samples, rule, BATCH, shard=shard),
    )
    figures = {
        key: value for key, value in outcome.evaluation.metrics().items() if "second" not in key
    }
    Path(f"{name}-{workers.index}.json").write_text(
        json.dumps({"losses": told.losses, "rows": batches.given, "figures": figures})
    )
    if workers.is_chief:
        np.savez(f"{name}.npz", *model.get_weights())


if __name__ == "__main__":
    try:
        main(*[argument for argument in sys.argv[1:] if argument != "--die"])
    except AlexNetError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(75)
