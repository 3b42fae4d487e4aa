"""Pickles that attack whoever loads them, in every file that carries a pickle: none runs, all are
refused.
"""

import copyreg
import subprocess
import sys
import time

import pytest

from tests.weights.npy_files import array_of, npy_around, npy_of, save
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
from tests.weights.torch_files import LEGACY_START, legacy_around, text, zip_around
from weights.numpy_pickle import read_npy
from weights.torch import read_pth


def first_of_legacy(pickled):
    return pickled + LEGACY_START


def third_of_legacy(pickled):
    return LEGACY_START[:21] + pickled + LEGACY_START[21:]


def keys_of_legacy(pickled):
    return LEGACY_START + b"\x80\x02}." + pickled


CARRIERS = {
    "npy": (read_npy, npy_of),
    "npy object": (read_npy, lambda pickled: npy_around(pickled[:-1])),
    "zip": (read_pth, zip_around),
    "legacy": (read_pth, legacy_around),
    "legacy magic": (read_pth, first_of_legacy),
    "legacy system": (read_pth, third_of_legacy),
    "legacy keys": (read_pth, keys_of_legacy),
}
COMMAND, CODE = text("touch canary"), text("__import__('os').system('touch canary')")
SYSTEM = b"cposix\nsystem\n"
RUN = SYSTEM + COMMAND + b"\x85R."
EXTENSION = 0x11
CALLS = {  # the standard library's unpickler runs each of these
    "GLOBAL and REDUCE": RUN,
    "GLOBAL and REDUCE, no protocol": b"cos\nsystem\n(" + COMMAND + b"tR.",
    "STACK_GLOBAL and REDUCE": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + COMMAND + b"\x85R.",
    "STACK_GLOBAL from the memo": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x940h\x00h\x01\x93"
    + COMMAND
    + b"\x85R.",
    "INST": b"(" + COMMAND + b"iposix\nsystem\n.",
    "OBJ": b"(" + SYSTEM + COMMAND + b"o.",
    "NEWOBJ": b"cargparse\nNamespace\n)\x810" + RUN,
    "NEWOBJ_EX": b"\x80\x04cargparse\nNamespace\n)}\x920" + RUN,
    "BUILD of __setstate__": b"cargparse\nNamespace\n)R}"
    + text("__setstate__")
    + SYSTEM
    + b"sb"
    + COMMAND
    + b"b.",
    "EXT1": b"\x82" + bytes([EXTENSION]) + COMMAND + b"\x85R.",
    "EXT2": b"\x83" + bytes([EXTENSION, 0]) + COMMAND + b"\x85R.",
    "EXT4": b"\x84" + bytes([EXTENSION, 0, 0, 0]) + COMMAND + b"\x85R.",
    "eval": b"cbuiltins\neval\n" + CODE + b"\x85R.",
    "eval by Python 2's name": b"c__builtin__\neval\n" + CODE + b"\x85R.",
    "exec": b"cbuiltins\nexec\n" + CODE + b"\x85R.",
    "getattr": (
        b"cbuiltins\ngetattr\ncbuiltins\n__import__\n"
        + text("os")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + COMMAND
        + b"\x85R."
    ),
    "map": b"cbuiltins\nlist\ncbuiltins\nmap\n" + SYSTEM + b"](" + COMMAND + b"e\x86R\x85R.",
    "a dotted name": b"\x80\x04\x8c\x08argparse\x8c\x0a_os.system\x93" + COMMAND + b"\x85R.",
    "a dotted name of an allowed module": (
        b"\x80\x04\x8c\x0bcollections\x8c\x10_sys.modules.get\x93" + text("os") + b"\x85R0" + RUN
    ),
    "in a list": b"]" + RUN[:-1] + b"a.",
    "behind a good value": b"}0N0(1" + RUN,
    "check_call": b"csubprocess\ncheck_call\n](" + text("touch") + text("canary") + b"e\x85R.",
}
OTHERS = {  # these name what no reader allows, or give allowed names what they do not take
    "PERSID": b"Pcos.system\n.",
    "BINPERSID": SYSTEM + b"Q.",
    "BINPERSID of text": COMMAND + b"Q.",
    "numpy runstring": b"cnumpy.testing\nrunstring\n" + CODE + b"}\x86R.",
    "numpy load": b"cnumpy\nload\n" + COMMAND + b"\x85R.",
    "numpy dtype of a class": b"cnumpy\ndtype\ncposix\nsystem\n\x85R.",
    "torch load": b"ctorch\nload\n" + COMMAND + b"\x85R.",
    "torch hub": b"ctorch.hub\nload\n" + COMMAND + b"\x85R.",
    "ctypes": b"cctypes\nCDLL\nN\x85R.",
    "open": b"cbuiltins\nopen\n" + text("canary") + text("w") + b"\x86R.",
    "rmtree": b"cshutil\nrmtree\n" + text(".") + b"\x85R.",
    "another case": b"cNumpy\nndarray\n.",
    "a space": b"cnumpy \nndarray\n.",
    "dots in an allowed name": b"cnumpy\nndarray.__init__\n.",
    "the name in the module": b"cnumpy ndarray\n\n.",
    "_codecs encode": b"c_codecs\nencode\n" + text("a") + text("latin1") + b"\x86R.",
    "copyreg _reconstructor": b"ccopyreg\n_reconstructor\n"
    + b"cbuiltins\nobject\n" * 2
    + b"N\x87R.",
    "__setstate__ of an array": array_of(b"}" + text("__setstate__") + COMMAND + b"sb."),
    "__reduce__ of an array": array_of(b"(K\x01)NN" + text("__reduce__") + b"tb."),
    "__class__ of a dictionary": b"ccollections\nOrderedDict\n)RN}"
    + text("__class__")
    + b"K\x01s\x86b.",
    "items of a function": b"ctorch._utils\n_rebuild_tensor_v2\n" + text("a") + b"K\x01s.",
    "items of a class": b"cnumpy\nndarray\n" + text("a") + b"K\x01s.",
    "state of a class": b"cnumpy\ndtype\n}" + text("a") + b"K\x01sb.",
}
MALFORMED = {
    repr(content): content
    for content in (
        b".",
        b"0.",
        b"1.",
        b"2.",
        b"t.",
        b"e.",
        b"]e.",
        b"}u.",
        b"}Ks.",
        b"s.",
        b"b.",
        b"R.",
        b"Q.",
        b"NQ.",
        b")Q.",
        b"h\x00.",
        b"j\0\0\0\0.",
        b"g99\n.",
        b"gx\n.",
        b"g-1\n.",
        b"p0\n",
        b"Np\n.",
        b"I\n.",
        b"Iabc\n.",
        b"F..\n.",
        b"L9x\n.",
        b"L" + b"9" * 99 + b"x\n.",
        b"S'a\n.",
        b"Sa\n.",
        b"S\n.",
        b"S'\\x4'\n.",
        b"S'\\\x07'\n.",
        b"X\x01\0\0\0\xff.",
        b"V\\U99999999\n.",
        b"(.",
        b"((((",
        b"(N2.",
        b"(2.",
        b"NNNb.",
        b"]}a}s.",
        b"}(NNu.",
        b"}(]Nu.",
        b"}(Nu.",
        b"}](Nuu.",
        b"K\x01K\x01a.",
        b"c\n\n.",
        b"d",
        b"(Nd.",
        b"cnumpy\n.",
        b"\x93.",
        b"NN\x93.",
        b"\x8c\x05numpyN\x93.",
        b"\x94.",
        b"\x80.",
        b"\x80\x09.",
        b"\x95" + bytes(7),
        b"G" + bytes(7),
        b"N\x85\x86\x87.",
    )
}
SIZES = {
    "LONG1 of 255 bytes": b"\x8a\xff" + bytes(255) + b".",
    "LONG4 of 2 GB": b"\x8b\xff\xff\xff\x7f.",
    "LONG4 below 0": b"\x8b\xff\xff\xff\xff.",
    "LONG4 of 1 MB": b"\x8b\x00\x00\x10\x00" + bytes(1 << 20) + b".",
    "BINSTRING below 0": b"T\xff\xff\xff\xff.",
    "BINSTRING of 2 GB": b"T\xff\xff\xff\x7f.",
    "BINUNICODE of 4 GB": b"X\xff\xff\xff\xff.",
    "BINUNICODE8 of 2**64": b"\x8d" + b"\xff" * 8 + b".",
    "BINBYTES of 4 GB": b"B\xff\xff\xff\xff.",
    "BINBYTES8 of 2**64": b"\x8e" + b"\xff" * 8 + b".",
    "BYTEARRAY8 of 2**40": b"\x96" + bytes(5) + b"\x01\0\0.",
    "NEXT_BUFFER": b"\x97.",
    "READONLY_BUFFER": b"N\x98.",
    "FRAME of 2**64": b"\x95" + b"\xff" * 8 + b"N.",
    "memo index 2**32": b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff.",
    "EMPTY_SET": b"\x8f.",
    "FROZENSET": b"(N\x91.",
    "ADDITEMS": b"\x8f(N\x90.",
    "name of 1 MB": b"c" + b"a" * (1 << 20) + b"\nb\n.",
    "integer of 1 MB": b"L" + b"9" * (1 << 20) + b"L\n.",
    "text of 1 MB": b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b".",
    "PUT of 200 digits": b"Np" + b"9" * 200 + b"\n.",
}
DEPTH = {
    "tuples": b")" + b"\x85" * 50_000 + b".",
    "lists": b"]" * 40_000 + b"a" * 39_999 + b".",
    "dictionaries": b"}" + b"K\x01}" * 20_000 + b"s" * 20_000 + b".",
    "marks": b"(" * 50_000 + b"t" * 50_000 + b".",
    "arrays": array_of(b"") * 10 + b"\x85" * 9 + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a dictionary in itself": b"}q\x00K\x01h\x00s.",
    "a tuple as key": b"})" + b"\x85" * 9_000 + b"Ns.",
    "a tuple many times": b")" + b"\x85" * 9_000 + b"2" * 9_000 + b".",
    "doubled tuples": b")" + b"2\x86" * 49_000 + b".",
    "doubled lists": b"]" + b"(22e" * 20_000 + b".",
    "endless values": b"N" * 200_000,
    "endless marks": b"(" * 200_000,
    "endless pops": b"N0" * 100_000,
}
FAMILIES = {
    "call": CALLS,
    "other name": OTHERS,
    "malformed": MALFORMED,
    "size": SIZES,
    "depth": DEPTH,
}
PICKLES = {
    f"{family}: {name}": content
    for family, files in FAMILIES.items()
    for name, content in files.items()
}


def test_the_calls_are_real_attacks(tmp_path):
    program = """if True:
        import copyreg, os, pickle, sys
        for name, content in eval(sys.stdin.read()).items():
            copyreg.add_extension("posix", "system", 0x11)
            try:
                pickle.loads(content)
            except BaseException as error:
                reason = repr(error)
            copyreg.remove_extension("posix", "system", 0x11)
            copyreg.clear_extension_cache()
            assert os.path.exists("canary"), (name, reason)
            os.remove("canary")"""
    subprocess.run(
        [sys.executable, "-c", program],
        input=repr(CALLS),
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=60,
    )


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES)
def test_hostile_pickle_is_refused_and_nothing_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    copyreg.add_extension("posix", "system", EXTENSION)
    try:
        for read, carry in CARRIERS.values():
            assert_refused(read, save(tmp_path / "w", carry(content)))
    finally:
        copyreg.remove_extension("posix", "system", EXTENSION)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_opcode_alone_and_every_pickle_cut_short_is_refused(tmp_path, carrier):
    read, carry = CARRIERS[carrier]
    for opcode in range(256):
        assert_refused(
            read,
            save(
                tmp_path / "w", carry(b"\x80\x02](" + COMMAND + bytes([opcode]) + COMMAND + b".")
            ),
        )
    content = CALLS["BUILD of __setstate__"]
    for end in range(len(content)):
        assert_refused(read, save(tmp_path / "w", carry(content[:end] + b".")))


BOMBS = {
    "one list in many dictionaries": lambda: (
        b"]("
        + b"".join(b"](" + text(str(n)) + b"Ne" for n in range(2000))
        + b"eq\x010ccollections\nOrderedDict\nq\x020("
        + b"h\x02h\x01\x85R" * 20_000
        + b"t."
    ),
    "colliding keys": lambda: (
        b"}("
        + b"".join(
            b"\x8a\x0f" + (n * ((1 << 61) - 1)).to_bytes(15, "little") + b"N"
            for n in range(40_000)
        )
        + b"u."
    ),
    "dictionaries": lambda: b"](" + b"}" * 10_000_000,
    "wide text": lambda: (
        b"](" + (b"X\x00\x01\x00\x00" + 252 * b"a" + "\U0001f600".encode()) * 90_000
    ),
    "remembered": lambda: (
        b"](" + b"".join(b"]r" + n.to_bytes(4, "little") for n in range(40_000)) + b"e."
    ),
}


@pytest.mark.parametrize("carrier", ["npy", "zip", "legacy"])
@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_memory_and_time_stay_in_proportion_to_the_file(tmp_path, carrier, make):
    read, carry = CARRIERS[carrier]
    path = save(tmp_path / "w", carry(make()))
    start_s = time.monotonic()
    assert_memory_in_proportion(read, path)
    assert time.monotonic() - start_s < 20


def test_the_corpus_is_as_large_as_it_should_be():
    assert all(len(files) >= 10 for files in FAMILIES.values())
    assert len(PICKLES) * len(CARRIERS) >= 500
