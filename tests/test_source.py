"""Files and functions stay short enough to be read in one go."""

import ast
import statistics

from tests.conftest import ROOT

FILES = [
    path for name in ("alexnet_keras", "modes", "weights") for path in (ROOT / name).rglob("*.py")
]
LONGEST_FILE = 300
LONGEST_CLI_FILE = 150
LONGEST_FUNCTION = 60
MEDIAN_FUNCTION = 12


def functions(path):
    """``(name, lines)`` of each: all from ``def`` to the end but the docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            docstring = ast.get_docstring(node) and first.end_lineno - first.lineno + 1
            yield node.name, node.end_lineno - node.lineno + 1 - (docstring or 0)


def test_no_module_defines_its_own_name():
    """``package.name`` would be the module, or what it defines, as the imports happen to run."""
    named = []
    for path in FILES:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        if path.stem in {getattr(node, "name", None) for node in body}:
            named.append(path.relative_to(ROOT).as_posix())
    assert [name for name in named if "/cli/" not in name] == []


def test_files_are_short():
    def limit(path):
        return LONGEST_CLI_FILE if path.parent.name == "cli" else LONGEST_FILE

    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    long = {path.relative_to(ROOT).as_posix() for path in FILES if lengths[path] > limit(path)}
    assert long == set()


def test_functions_are_short():
    found = [(path.name, *function) for path in FILES for function in functions(path)]
    assert [place for place in found if place[-1] > LONGEST_FUNCTION] == []
    assert statistics.median(place[-1] for place in found) < MEDIAN_FUNCTION
