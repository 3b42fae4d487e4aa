"""An unpickler that builds plain values and arrays and nothing else.

The standard library's looks names up in modules and calls what it finds; with 9 bytes it can be
made to take 4 GB. This one never does: a name in a pickle can only be one of the :class:`Global`
objects that a reader allows, and "calling" it runs the reader's own function on plain values.
Opcodes that exist to make or call other things (INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1 ...) are
absent. Long byte strings stay in the file, text is short and opcodes are counted, so that neither
memory nor time can be used up.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weights.errors import WeightsError
from weights.pickle_stream import PickleStream

MAX_OPCODES = 100_000
_MAX_KEY = 1 << 60
_MARK = object()
_OPCODE_NAMES = {
    value[0]: name
    for name, value in vars(pickle).items()
    if name.isupper() and isinstance(value, bytes) and len(value) == 1
}


@dataclass(frozen=True, eq=False)
class Global:
    """A name that a pickle may use; ``build`` is our function to run where the pickle calls it,
    None if it may not.
    """

    name: str
    build: Callable[..., object] | None = None


class Buildable:
    """What a :class:`Global` builds and the opcode BUILD may then give its state to."""

    def set_state(self, state: object) -> None:
        """Take the state over; raises ``ValueError`` or ``TypeError`` where it is not what the
        real class writes.
        """
        raise NotImplementedError


class RestrictedUnpickler(PickleStream):
    """Reads the pickle that begins at ``position`` of ``data``; :attr:`position` is behind it
    after :meth:`load`.

    ``allowed``: the globals, by ``"module name"`` with a space between. ``persistent_load``: what
    stands for an object stored outside the pickle, given its persistent id. ``place`` says in
    errors where the pickle is.
    """

    def __init__(
        self,
        data: memoryview,
        path: Path,
        allowed: dict[str, Global],
        place: str = "pickle",
        persistent_load: Callable[[object], object] | None = None,
        position: int = 0,
    ):
        super().__init__(data, position)
        self._path = path
        self._place = place
        self._allowed = allowed
        self._persistent_load = persistent_load
        self._stack: list = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """The value of the pickle. Raises ``WeightsError`` naming the opcode and its byte; runs no
        code of the file.
        """
        for _ in range(MAX_OPCODES):
            self._start = self.position
            self._opcode = -1
            try:
                self._opcode = self.take(1)[0]
                if self._opcode == pickle.STOP[0]:
                    return self.pop()
                self._step(self._opcode)
            except WeightsError:
                raise
            except (
                ValueError,
                TypeError,
                KeyError,
                IndexError,
                OverflowError,
                struct.error,
                DeprecationWarning,
            ) as error:  # the last is of an unknown escape, where warnings are errors
                raise self.refused(error) from None
        raise WeightsError(
            f"{self._path}: {self._place}: expected at most {MAX_OPCODES} opcodes, got more"
        )

    def refused(self, error: Exception) -> WeightsError:
        """The one line for what is wrong with the opcode at work."""
        name = "missing"
        if self._opcode >= 0:
            name = _OPCODE_NAMES.get(self._opcode, f"{self._opcode:#04x}")
        reason = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error)[:300])
        return WeightsError(
            f"{self._path}: {self._place}: opcode {name} at byte {self._start}: {reason}"
        )

    def _step(self, opcode: int) -> None:
        if opcode in _VALUES:
            self._stack.append(_VALUES[opcode](self))
        elif opcode in _EFFECTS:
            _EFFECTS[opcode](self)
        else:
            raise ValueError(
                "expected an opcode that builds plain values and arrays, got one that is not "
                "allowed"
            )

    def push(self, value: object) -> None:
        self._stack.append(value)

    def pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise ValueError("expected a value on the stack, got none")
        return self._stack.pop()

    def pop_to_mark(self) -> list:
        """The values above the last mark, which goes too."""
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                values = self._stack[index + 1 :]
                del self._stack[index:]
                return values
        raise ValueError("expected a mark on the stack, got none")

    def pop_tuple(self, count: int) -> tuple:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def top(self) -> object:
        value = self.pop()
        self._stack.append(value)
        return value

    def put(self, index: int) -> None:
        self._memo[index] = self.top()

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> object:
        if index not in self._memo:
            raise ValueError(f"expected a remembered value {index}, got none")
        return self._memo[index]

    def find_global(self, module: object, name: object) -> Global:
        full_name = (
            f"{module} {name}" if type(module) is str and type(name) is str else "of another type"
        )
        if full_name not in self._allowed:
            raise ValueError(
                f"expected a global of the array types, got {full_name!r}, which is not allowed"
            )
        return self._allowed[full_name]

    def reduce(self) -> object:
        callee, arguments = self.pop_tuple(2)
        if type(callee) is not Global or callee.build is None or type(arguments) is not tuple:
            raise ValueError(
                f"expected an allowed global and a tuple, got {_kind(callee)} and "
                f"{_kind(arguments)}"
            )
        return callee.build(*arguments)

    def build(self) -> None:
        target, state = self.pop_tuple(2)
        if not isinstance(target, Buildable):
            raise ValueError(
                f"expected an array, a dtype or an ordered dictionary to set, got {_kind(target)}"
            )
        target.set_state(state)
        self._stack.append(target)

    def persistent(self) -> object:
        if self._persistent_load is None:
            raise ValueError("expected no persistent id here")
        return self._persistent_load(self.pop())

    def extend(self, values: list) -> None:
        target = self.top()
        if type(target) is not list:
            raise ValueError(f"expected a list to append to, got {_kind(target)}")
        target.extend(values)

    def update(self, values: list) -> None:
        target = self.top()
        if not isinstance(target, dict):
            raise ValueError(f"expected a dictionary to set items of, got {_kind(target)}")
        fill(target, values)


def fill(target: dict, values: list) -> dict:
    """``key, value, key, value ...`` into ``target``; keys are text or moderate integers, and each
    comes once.
    """
    if len(values) % 2:
        raise ValueError("expected keys and values in pairs, got one too many")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not is_key(key):
            raise ValueError(f"expected text or a small integer as a key, got {_kind(key)}")
        if key in target:
            raise ValueError(f"expected each key once, got {key!r} twice")
        target[key] = value
    return target


def is_key(value: object) -> bool:
    return type(value) is str or (type(value) is int and abs(value) < _MAX_KEY)


def _kind(value: object) -> str:
    return f"global {value.name!r}" if type(value) is Global else type(value).__name__


def _protocol(machine: RestrictedUnpickler) -> None:
    version = machine.integer(1)
    if version > 4:
        raise ValueError(f"expected protocol 0 to 4, got {version}")


_VALUES = {
    opcode[0]: action
    for opcode, action in {
        pickle.NONE: lambda m: None,
        pickle.NEWTRUE: lambda m: True,
        pickle.NEWFALSE: lambda m: False,
        pickle.INT: RestrictedUnpickler.boolean_or_integer,
        pickle.BININT: lambda m: m.integer(4, signed=True),
        pickle.BININT1: lambda m: m.integer(1),
        pickle.BININT2: lambda m: m.integer(2),
        pickle.LONG: lambda m: int(m.line().removesuffix(b"L")),
        pickle.LONG1: lambda m: m.integer(m.integer(1), signed=True),
        pickle.LONG4: lambda m: m.integer(m.integer(4), signed=True),
        pickle.FLOAT: lambda m: float(m.line()),
        pickle.BINFLOAT: lambda m: struct.unpack(">d", m.take(8))[0],
        pickle.STRING: RestrictedUnpickler.quoted,
        pickle.SHORT_BINSTRING: lambda m: m.byte_string(m.integer(1)),
        pickle.BINSTRING: lambda m: m.byte_string(m.integer(4)),
        pickle.SHORT_BINBYTES: lambda m: m.take(m.integer(1)),
        pickle.BINBYTES: lambda m: m.take(m.integer(4)),
        pickle.BINBYTES8: lambda m: m.take(m.integer(8)),
        pickle.UNICODE: lambda m: m.line().decode("raw-unicode-escape"),
        pickle.SHORT_BINUNICODE: lambda m: m.text(m.integer(1)),
        pickle.BINUNICODE: lambda m: m.text(m.integer(4)),
        pickle.EMPTY_TUPLE: lambda m: (),
        pickle.TUPLE1: lambda m: m.pop_tuple(1),
        pickle.TUPLE2: lambda m: m.pop_tuple(2),
        pickle.TUPLE3: lambda m: m.pop_tuple(3),
        pickle.TUPLE: lambda m: tuple(m.pop_to_mark()),
        pickle.EMPTY_LIST: lambda m: [],
        pickle.LIST: RestrictedUnpickler.pop_to_mark,
        pickle.EMPTY_DICT: lambda m: {},
        pickle.DICT: lambda m: fill({}, m.pop_to_mark()),
        pickle.DUP: RestrictedUnpickler.top,
        pickle.GET: lambda m: m.get(int(m.line())),
        pickle.BINGET: lambda m: m.get(m.integer(1)),
        pickle.LONG_BINGET: lambda m: m.get(m.integer(4)),
        pickle.GLOBAL: lambda m: m.find_global(m.line().decode("utf-8"), m.line().decode("utf-8")),
        pickle.STACK_GLOBAL: lambda m: m.find_global(*m.pop_tuple(2)),
        pickle.REDUCE: RestrictedUnpickler.reduce,
        pickle.BINPERSID: RestrictedUnpickler.persistent,
    }.items()
}

_EFFECTS = {
    opcode[0]: action
    for opcode, action in {
        pickle.PROTO: _protocol,
        pickle.FRAME: lambda m: m.take(8),
        pickle.MARK: lambda m: m.push(_MARK),
        pickle.POP: lambda m: m.pop(),
        pickle.POP_MARK: lambda m: m.pop_to_mark(),
        pickle.PUT: lambda m: m.put(int(m.line())),
        pickle.BINPUT: lambda m: m.put(m.integer(1)),
        pickle.LONG_BINPUT: lambda m: m.put(m.integer(4)),
        pickle.MEMOIZE: RestrictedUnpickler.memoize,
        pickle.APPEND: lambda m: m.extend([m.pop()]),
        pickle.APPENDS: lambda m: m.extend(m.pop_to_mark()),
        pickle.SETITEM: lambda m: m.update(list(m.pop_tuple(2))),
        pickle.SETITEMS: lambda m: m.update(m.pop_to_mark()),
        pickle.BUILD: RestrictedUnpickler.build,
    }.items()
}
