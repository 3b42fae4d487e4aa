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


def test_files_are_short():
    def limit(path):
        return LONGEST_CLI_FILE if path.parent.name == "cli" else LONGEST_FILE

    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {
        path.relative_to(ROOT).as_posix(): lines
        for path, lines in lengths.items()
        if lines > limit(path)
    } == {}


def test_functions_are_short():
    found = {(path.name, name): lines for path in FILES for name, lines in functions(path)}
    assert {place: lines for place, lines in found.items() if lines > LONGEST_FUNCTION} == {}
    assert statistics.median(found.values()) < MEDIAN_FUNCTION
