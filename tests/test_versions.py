"""What setup.cfg declares: every library that is imported, the oldest release of each that .ci/run
tries, and the Pythons.
"""

import configparser
import importlib.metadata
import re
import sys

import grimp
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def requirements(lines):
    found = [Requirement(line) for line in lines.splitlines() if line and line[0] != "#"]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in found}


INSTALLED = requirements(SETUP["options"]["install_requires"])
TESTED = requirements(SETUP["options.extras_require"]["test"])
FLOORS = requirements((ROOT / ".ci" / "floors.txt").read_text(encoding="utf-8"))


def floor(specifiers):
    """``2.18`` of ``>=2.18,<2.22``."""
    (lowest,) = (each.version for each in specifiers if each.operator == ">=")
    return lowest


def test_the_oldest_releases_are_those_that_are_tried():
    declared = {name: floor(specifiers) for name, specifiers in (INSTALLED | TESTED).items()}
    assert {name: str(pin).removeprefix("==") for name, pin in FLOORS.items()} == declared


def test_extras_agree():
    for name in ("tensorboard", "science"):
        extra = requirements(SETUP["options.extras_require"][name])
        assert extra.items() <= TESTED.items()


def test_every_imported_library_is_declared_and_no_other():
    graph = grimp.build_graph(
        "alexnet_keras", "modes", "weights", include_external_packages=True, cache_dir=None
    )
    external = {name for name in graph.modules if graph.is_module_squashed(name)}
    distributions = importlib.metadata.packages_distributions()
    imported = {
        canonicalize_name(distribution)
        for name in external - sys.stdlib_module_names
        for distribution in distributions.get(name, [name])
    }
    science = requirements(SETUP["options.extras_require"]["science"])
    optional = {"tensorboard", "torch", *science}
    assert imported - optional == INSTALLED.keys()


def test_tensorflow_has_an_upper_bound():
    """Private names of it were tried up to there."""
    assert "2.22" not in INSTALLED["tensorflow"]


def test_the_classifiers_name_the_pythons():
    accepted = SpecifierSet(SETUP["options"]["python_requires"])
    named = re.findall(r":: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    assert named == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in accepted]
