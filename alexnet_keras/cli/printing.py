"""Lines on stdout; rich is imported with the first one."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` on one line that any terminal can show: names of files may hold line ends, escapes
    and stray bytes.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def say(text: str) -> None:
    """One line on stdout."""
    from alexnet_keras.cli.console import console

    console.print(printable(text))


def print_evaluation(evaluation, label: str) -> None:
    """The figures of an evaluation on one line."""
    say(
        f"{label}: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%}, mean per class "
        f"{evaluation.mean_per_class:.2%} on {evaluation.images} images, "
        f"{evaluation.images / evaluation.seconds:.0f} images/s"
    )
