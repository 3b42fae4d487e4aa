"""The commands that read features files: parse, call one function, print its result."""

from __future__ import annotations

import click

feature_group = click.Group()
