"""The pickle of a whole checkpoint: tensors that a reader wants beside much that it does not.

Optimizers, arguments, NumPy scalars and objects of any library stand beside a state dict. Nothing
of them is imported, called or kept: every name that the reader does not allow becomes
:data:`FOREIGN`, and so does whatever the pickle makes of it.
"""

from __future__ import annotations

import pickle
import re
import sys

from weights.errors import WeightsError
from weights.pickle_stream import MAX_TEXT_BYTES
from weights.restricted_pickle import Buildable, Global, RestrictedUnpickler, fill, is_key


class _Foreign(Buildable):
    def set_state(self, state: object) -> None:
        pass


FOREIGN = _Foreign()
"""What stands for every object that the reader has no use for."""


def is_foreign(value: object) -> bool:
    """Whether ``value`` stands for such an object or for its class."""
    return value is FOREIGN or (type(value) is Global and value.build is _build)


def _build(*_: object) -> _Foreign:
    return FOREIGN


def _may_be_foreign(module: object, name: object) -> bool:
    if type(module) is not str or type(name) is not str:
        return False
    if module.partition(".")[0] not in _STANDARD_LIBRARY:
        return True
    return _VALUES.fullmatch(f"{module} {name}") is not None


# Of the standard library only names of values: whoever pickles another wants it to be called.
_VALUES = re.compile(
    r"(argparse|collections|datetime|decimal|enum|fractions|pathlib|uuid)(\.\w+)* \w+"
    r"|(builtins|__builtin__) (bool|bytearray|bytes|complex|dict|float|frozenset|int|list|long"
    r"|object|range|set|slice|str|tuple|unicode|xrange)"
    r"|_codecs encode|copy_?reg _reconstructor|types SimpleNamespace"
)
# With Python 2's names of modules, and those that not every system has.
_STANDARD_LIBRARY = sys.stdlib_module_names | {
    "__builtin__",
    "commands",
    "copy_reg",
    "nt",
    "os2",
    "posix",
}


class CheckpointUnpickler(RestrictedUnpickler):
    """Like its parent, but what is not allowed becomes :data:`FOREIGN` instead of an error.

    Other keys than text and moderate integers are left out of dictionaries; text that is too long
    to be a name stays bytes of the file. Names of the standard library that are no values
    (``os system``, ``builtins eval``) are refused as before. :attr:`refusal` is the error for the
    first name that was not allowed, None where all were.
    """

    refusal: WeightsError | None = None

    def find_global(self, module: object, name: object) -> Global:
        try:
            return super().find_global(module, name)
        except ValueError as error:
            if not _may_be_foreign(module, name):
                raise
            self.refusal = self.refusal or self.refused(error)
            return Global(name, _build)

    def new_object(self) -> object:
        """NEWOBJ: an instance, without a call of its class."""
        callee, arguments = self.pop_tuple(2)
        if type(callee) is not Global or not is_foreign(callee) or type(arguments) is not tuple:
            raise ValueError("expected a class of another library and a tuple")
        return FOREIGN

    def text(self, size: int) -> str | memoryview:
        return super().text(size) if size <= MAX_TEXT_BYTES else self.take(size)

    def extend(self, values: list) -> None:
        if self.top() is not FOREIGN:
            super().extend(values)

    def update(self, values: list) -> None:
        if self.top() is FOREIGN:
            return
        super().update(self._with_readable_keys(values))

    def _step(self, opcode: int) -> None:
        if opcode == pickle.NEWOBJ[0]:
            self.push(self.new_object())
        elif opcode == pickle.DICT[0]:
            self.push(fill({}, self._with_readable_keys(self.pop_to_mark())))
        else:
            super()._step(opcode)

    @staticmethod
    def _with_readable_keys(values: list) -> list:
        pairs = list(zip(values[::2], values[1::2], strict=False))
        kept = [part for pair in pairs if is_key(pair[0]) for part in pair]
        return [*kept, *values[2 * len(pairs) :]]
