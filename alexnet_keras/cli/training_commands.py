"""``scratch`` and ``transfer``: parse, call one function, and set the exit code by its result."""

from __future__ import annotations

import sys

import click

from alexnet_keras.cli.command import INTERRUPTED, command
from alexnet_keras.cli.options import named_options, options_from
from alexnet_keras.configs.options import ScratchOptions, TransferOptions

training_group = click.Group()


@command(training_group)
@options_from(ScratchOptions)
def scratch(**options):
    """Train a network from scratch."""
    from modes.scratch import run_scratch

    _exit_if_interrupted(run_scratch(**named_options()))


@command(training_group)
@options_from(TransferOptions)
def transfer(**options):
    """Fine-tune a pretrained network on your classes."""
    from modes.transfer import run_transfer

    _exit_if_interrupted(run_transfer(**named_options()))


def _exit_if_interrupted(run) -> None:
    if not run.result["finished"]:
        sys.exit(INTERRUPTED)
