"""What the commands print."""

from __future__ import annotations

from alexnet_keras.cli_options import printable


def say(text: str) -> None:
    """One line on stdout."""
    from alexnet_keras.console import console
    console.print(printable(text))


def tell(evaluation, label: str) -> None:
    """The figures of an evaluation on one line."""
    say(f"{label}: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%}, mean per class "
        f"{evaluation.mean_per_class:.2%} on {evaluation.images} images, "
        f"{evaluation.images / evaluation.seconds:.0f} images/s")
