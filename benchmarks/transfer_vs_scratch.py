"""Transfer learning against training from scratch on the same few images, in the same wall time.

    python -m benchmarks.transfer_vs_scratch [--data demo-new] [--weights demo] [--seeds 3]

Prints a line per seed and the means. On the demonstration it asserts the README's claim: transfer
reaches 85% top-1 and is at least 15 points ahead of scratch. ``--weights PATH --partial --data
PATH`` compares them on your own data.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click

from alexnet_keras.cli.command import import_tensorflow

MIN_TRANSFER = 0.85
MIN_LEAD = 0.15
ENDLESS_EPOCHS = 100_000


@click.command(context_settings={"show_default": True})
@click.option("--data", default="demo-new", metavar="demo-new|PATH")
@click.option("--weights", default="demo", metavar="NAME|PATH|RUN")
@click.option("--variant", help="Of a weight file that records none.")
@click.option("--partial", is_flag=True, help="Allow layers that are missing from the weights.")
@click.option("--epochs", type=int, help="Epochs of fine-tuning.  [default: the recipe's]")
@click.option("--batch-size", type=int, help="[default: the recipes']")
@click.option("--seeds", default=3, help="Number of seeds.")
def main(
    data: str,
    weights: str,
    variant: str | None,
    partial: bool,
    epochs: int | None,
    batch_size: int | None,
    seeds: int,
) -> None:
    """Compare transfer learning with training from scratch."""
    import_tensorflow()
    source = {"name_or_path": weights, "variant": variant, "partial": partial}
    results = [_compare(data, source, epochs, batch_size, seed) for seed in range(seeds)]
    transfer, scratch = (sum(column) / seeds for column in zip(*results, strict=True))
    click.echo(
        f"mean of {seeds} seeds: transfer {transfer:.1%}, scratch {scratch:.1%}, lead "
        f"{transfer - scratch:.1%}"
    )
    if data == "demo-new":
        assert transfer >= MIN_TRANSFER, (
            f"transfer: expected at least {MIN_TRANSFER:.0%}, got {transfer:.1%}"
        )
        assert transfer - scratch >= MIN_LEAD, (
            f"lead: expected at least {MIN_LEAD:.0%}, got {transfer - scratch:.1%}"
        )


def _compare(data, source, epochs, batch_size, seed) -> tuple[float, float]:
    """Top-1 on val of transfer learning, and of training from scratch for the same wall time."""
    from alexnet_keras.configs import recipe as recipes
    from alexnet_keras.data.layouts import open_dataset
    from alexnet_keras.pretrained.loading import load_pretrained

    if data == "demo-new":
        finetune = recipes.DEMO_FINETUNE_RECIPE
        from_scratch = recipes.DEMO_RECIPE
    else:
        finetune = recipes.FINETUNE_RECIPE
        from_scratch = recipes.CAFFE_RECIPE
    finetune = replace(finetune, **_specified(epochs=epochs, batch_size=batch_size))
    from_scratch = replace(from_scratch, **_specified(batch_size=batch_size))
    dataset = open_dataset(data)
    base = load_pretrained(**source)
    with TemporaryDirectory() as folder:
        began = perf_counter()
        transfer = _transfer(dataset, Path(folder, "transfer"), base, finetune, seed)
        seconds = perf_counter() - began
        scratch = _scratch(dataset, Path(folder, "scratch"), base, from_scratch, seed, seconds)
    click.echo(
        f"seed {seed}: {seconds:.0f} s each, transfer {transfer.top1:.1%}, scratch "
        f"{scratch.top1:.1%} on {transfer.images} val images"
    )
    return transfer.top1, scratch.top1


def _specified(**fields) -> dict:
    return {name: value for name, value in fields.items() if value}


def _transfer(dataset, folder: Path, base, recipe, seed: int):
    """The evaluation of a transfer run."""
    from alexnet_keras.configs.recipe import HEAD_RECIPE
    from alexnet_keras.training.run_folder import new_run_folder
    from modes.transfer import train_from_pretrained

    run = new_run_folder(folder, "transfer")
    return train_from_pretrained(
        dataset, run, base=base, head_recipe=HEAD_RECIPE, recipe=recipe, seed=seed
    ).evaluation


def _scratch(dataset, folder: Path, base, recipe, seed: int, seconds: float):
    """The evaluation of a run from scratch that is stopped after ``seconds``."""
    from alexnet_keras.configs.schedule import DropAt
    from alexnet_keras.training.run_folder import new_run_folder
    from modes.scratch import train_from_scratch

    return train_from_scratch(
        dataset,
        new_run_folder(folder, "scratch"),
        architecture=base.model.architecture,
        preprocessing=base.model.preprocessing,
        recipe=replace(recipe, epochs=ENDLESS_EPOCHS, steps=None, schedule=DropAt()),
        seed=seed,
        callbacks=[_time_limit(seconds)],
    ).evaluation


def _time_limit(seconds: float):
    import keras

    class TimeLimit(keras.callbacks.Callback):
        """Stops training when the time is up."""

        def on_train_begin(self, logs=None):
            self.end = perf_counter() + seconds

        def on_train_batch_end(self, step, logs=None):
            self.model.stop_training = perf_counter() > self.end

    return TimeLimit()


if __name__ == "__main__":
    main()
