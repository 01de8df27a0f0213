"""The process that runs the tests in the second step, and never a program's line. Started once, in its own sandbox.

For every program it forks a child that talks to the program's process (program_worker.py) over a socket. Names that the
tests take from the program are functions whose calls go there; what comes back is decoded into values of exact standard
types, so every comparison is the standard library's own.
"""

import ast
import builtins
import fcntl
import importlib
import io
import marshal
import operator
import os
import pickletools
import resource
import signal
import socket
import symtable
import sys
import threading

from wmtp_jax.sandbox.confine import confine, receive_message, send_message
from wmtp_jax.sandbox.values import Decoder, NotCarriedError, encode

_EXTRA_BYTES = 512 << 20
_REPLIES = {("ok", 4), ("ok", 2), ("function", 2), ("raise", 4), ("callback", 4), ("cannot", 2)}
_MUTABLE = (list, dict, set, bytearray)
_ATOMS = {type(None), bool, int, float, complex, str, bytes, set, bytearray}
# Modules without a state that program and tests would share, if they ran in one process.
_PURE = {
    *("abc", "ast", "bisect", "calendar", "cmath", "collections", "collections.abc", "copy", "dataclasses", "datetime"),
    *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "json", "math", "numbers"),
    *("operator", "re", "statistics", "string", "textwrap", "typing", "unicodedata"),
}
# Modules that run nothing that they are given as text or bytes, so that tests can use them on what a program returns.
_HARMLESS = _PURE | {
    *("array", "asyncio", "base64", "binascii", "concurrent.futures", "contextlib", "csv", "difflib", "io", "locale"),
    *("pprint", "queue", "random", "secrets", "string", "struct", "sys", "threading", "time", "traceback", "types"),
    *("unittest", "uuid", "warnings", "weakref", "zlib"),
}
# With these, what a program returns could take over the process that the tests run in.
_EXECUTING_BUILTINS = {
    *("eval", "exec", "compile", "open", "breakpoint", "getattr", "setattr", "delattr"),
    *("globals", "locals", "vars", "__import__", "__builtins__", "__loader__", "__spec__"),
}
# What a program computes with these may differ from one run to the next.
_CHANGING_MODULES = {
    "asyncio",
    "concurrent.futures",
    "multiprocessing",
    "random",
    "secrets",
    "threading",
    "time",
    "uuid",
}
_IMPURE_BUILTINS = {
    *("id", "hash", "open", "input", "print", "globals", "locals", "vars", "dir", "eval"),
    *("__import__", "getattr", "setattr", "delattr", "hasattr", "callable", "__build_class__", "super", "breakpoint"),
}


class CannotConfirm(BaseException):
    """The tests need more of the program than values; an `except:` in the tests does not undo it."""


class Exited(BaseException):
    """The program has gone, or sent something that is no reply."""


class Client:
    """Calls functions and reads names of one program, in its process.

    Args:
        channel: descriptor of the socket to it.

    Attributes:
        ended: why nothing more can be asked.
        doubt: why a failure may be no contradiction.
    """

    def __init__(self, channel: int):
        self.channel = channel
        self.functions = []
        # The tests may have threads; a function of theirs may ask for more while the program calls it.
        self.lock = threading.RLock()
        self.ended: BaseException | None = None
        self.doubt = ""

    def load(self) -> dict[str, str]:
        """Waits until the program has run; its names, each with where it comes from."""
        names = self.receive()
        if names[0] == "ok" and len(names) == 2 and type(names[1]) is dict:
            return {name: origin for name, origin in names[1].items() if type(name) is type(origin) is str}
        return self.checked(names)

    def get(self, name: str):
        """A name of the program: a plain value, or a function."""
        reply = self.exchange(("get", name))
        if reply[0] == "ok":
            return reply[1]

        def function(*arguments, **keywords):
            return self.call(name, reply[1], arguments, keywords)

        function.__name__ = function.__qualname__ = name
        return function

    def call(self, name: str, number: int, arguments: tuple, keywords: dict):
        """Calls a function of the program, and copies back what it has changed in its arguments."""
        given = (*arguments, *keywords.values())
        if not all(map(is_copied_back, given)):
            self.doubt = "the program may change a value inside an argument"
        reply = self.exchange(("call", name, number, arguments, keywords))
        if len(reply) != 4:
            self.fail()
        _, value, place, changed = reply
        if changed is None:
            return value
        try:
            for i, new in changed.items():
                replace(given[i], new)
            return value if place is None else given[place]
        except (AttributeError, IndexError, TypeError, ValueError):
            self.fail()

    def exchange(self, request: tuple) -> tuple:
        with self.lock:
            self.send(request)
            reply = self.receive()
            while reply[0] == "callback":
                self.doubt = "the tests run in the middle of the program"
                self.send(self.call_back(*reply[1:]))
                reply = self.receive()
            return self.checked(reply)

    def checked(self, reply: tuple) -> tuple:
        """The reply, if it is a result; raises what the program raised."""
        if (reply[0], len(reply)) in (("ok", 4), ("function", 2)):
            return reply
        if reply[0] == "cannot":
            self.cannot(str(reply[1]))
        if reply[0] != "raise":
            self.fail()
        kind = getattr(builtins, str(reply[1]), None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            self.fail()
        # Each would end a loop of the tests without an error: `all(map(check, cases))`.
        if issubclass(kind, StopIteration | StopAsyncIteration):
            self.cannot(f"the program raised {kind.__name__}")
        error = kind(*reply[2])
        error.said = str(reply[3])
        raise error

    def cannot(self, why: str) -> None:
        self.ended = self.ended or CannotConfirm(why)
        raise self.ended

    def fail(self) -> None:
        self.ended = self.ended or Exited()
        raise self.ended

    def call_back(self, number: int, arguments: tuple, keywords: dict) -> tuple:
        try:
            return ("returned", self.functions[number](*arguments, **keywords))
        except Exception as error:
            if getattr(builtins, type(error).__name__, None) is not type(error):
                self.cannot(f"the tests raised {type(error).__name__} into the program")
            return ("failed", type(error).__name__, error.args)

    def send(self, message: tuple) -> None:
        if self.ended:
            raise self.ended
        try:
            data, has_nan, _ = encode(message, self.functions)
        except NotCarriedError as error:
            self.cannot(f"the tests give the program {error}")
        if has_nan:
            self.doubt = "there is a NaN, which equals itself only as long as it is not copied"
        try:
            send_message(self.channel, data)
        except OSError:
            self.fail()

    def receive(self) -> tuple:
        try:
            data = receive_message(self.channel)
            flags, data = data[0], data[1:]
            decoder = Decoder(io.BytesIO(data))
            reply = decoder.load()
            # What sets attributes could change the `==` of an object.
            if decoder.has_objects and any(opcode.name == "BUILD" for opcode, _, _ in pickletools.genops(data)):
                self.fail()
        except MemoryError:
            raise
        except NotCarriedError as error:
            self.cannot(f"the program gives {error}")
        except Exception:
            self.fail()
        if type(reply) is not tuple or not reply or (reply[0], len(reply)) not in _REPLIES:
            self.fail()
        if flags & 1:
            self.doubt = "the program holds on to a value that it shares with the tests"
        if flags & 2:
            self.doubt = "there is a NaN, which equals itself only as long as it is not copied"
        return reply


class TestGlobals(dict):
    """The tests' global names; those that they take from the program are asked for when they are used."""

    def __init__(self, client: Client, job: dict, program_names: dict[str, str]):
        super().__init__(__builtins__=builtins)
        if job["module_name"] != "builtins":
            self["__name__"] = job["module_name"]
        self.client, self.remote = client, set()
        for source in (job["helpers"], job["tests"]):
            danger = executing(source, job["packages"])
            if danger:
                client.cannot(f"the tests use {danger}, which can run what the program returns")
        if job["helpers"]:
            exec(compile(job["helpers"], "helpers", "exec"), self)
        for name in job["entry_points"]:
            self.pop(name, None)
        for name in (free_names(job["tests"]) & program_names.keys()) - self.keys():
            origin = program_names[name]
            if name in job["entry_points"]:
                self.remote.add(name)
            elif hasattr(builtins, name):
                # Also that of a package: the `all` of numpy is true for every generator.
                client.cannot(f"the program has a {name} of its own, which the tests use")
            elif origin.partition(":")[0] in _PURE | set(job["packages"]) and origin.partition(":")[2] in ("", name):
                # `math.isclose` means the standard library's, whatever the program calls math.
                self[name] = standard(origin)
            elif job["entry_points"]:
                client.cannot(f"the tests use {name}, which the program may have redefined")
            else:
                self.remote.add(name)
        if not job["entry_points"] and len(self.remote) > 1:
            # One of them may be what compares, or what is expected.
            names = " and ".join(sorted(self.remote)[:2])
            client.cannot(f"the tests use {names}, and no entry point says which the program may define")

    def __missing__(self, name):
        if name in self.remote:
            return self.client.get(name)
        raise KeyError(name)


def standard(origin: str):
    """What "module" or "module:name" says."""
    module, _, name = origin.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def free_names(tests: str) -> set[str]:
    """The names that the tests read and bind nowhere."""
    read, bound = global_names(tests)
    return read - bound


def global_names(tests: str) -> tuple[set[str], set[str]]:
    """The global names that are read, and those that are bound."""
    tables = [symtable.symtable(tests, "tests", "exec")]
    for table in tables:
        tables += table.get_children()
    symbols = [symbol for table in tables for symbol in table.get_symbols() if symbol.is_global()]
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    bound |= {symbol.get_name() for symbol in tables[0].get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return {symbol.get_name() for symbol in symbols if symbol.is_referenced()}, bound


def executing(source: str, packages: list[str]) -> str:
    """What in the tests could run a value as a program, if there is anything."""
    read, _ = global_names(source)
    if "exec" in read and only_executes_literals(source):
        read.discard("exec")
    for name in sorted(_EXECUTING_BUILTINS & read):
        return name
    for module in sorted(imported_modules(source)):
        if module not in _HARMLESS and module.partition(".")[0] not in packages:
            return f"the module {module}"
    return ""


def only_executes_literals(source: str) -> bool:
    """Whether each use of `exec` runs text of the tests, such as a reference solution, in a namespace of its own."""
    nodes = list(ast.walk(ast.parse(source)))
    literal = [
        node
        for node in nodes
        if isinstance(node, ast.Call) and len(node.args) == 2 and isinstance(node.args[0], ast.Constant)
    ]
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == "exec"]
    return all(any(use is call.func for call in literal) for use in uses)


def imported_modules(source: str) -> set[str]:
    """The modules that the source imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
    return found


def doubt_about(job: dict, program_names: dict[str, str], error: BaseException) -> str:
    """Why tests that fail here may pass in one process with the program, whoever is honest; "" where they cannot."""
    if isinstance(error, NameError | AttributeError | RecursionError | MemoryError | ImportError):
        return f"{type(error).__name__} where program and tests are apart"
    if job["helpers"]:
        return "the tests use a helper of the prompt, which the program may have redefined"
    read, bound = global_names(job["tests"])
    if bound & program_names.keys():
        return f"program and tests both define {min(bound & program_names.keys())}"
    if (read - bound) & _IMPURE_BUILTINS:
        return f"the tests use {min((read - bound) & _IMPURE_BUILTINS)}"
    if "set_int_max_str_digits" in str(error):
        return "the program may have set how long the text of an integer can be"
    try:
        changing = _CHANGING_MODULES & imported_modules(job["source"])
    except (RecursionError, SyntaxError, ValueError):
        changing = set()
    if changing:
        return f"the program uses the module {min(changing)}"
    # The context of decimals is the program's as well.
    for module in sorted(imported_modules(job["tests"])):
        if module == "decimal" or (module not in _PURE and module.partition(".")[0] not in job["packages"]):
            return f"the tests use the module {module}"
    modules = {name for name, origin in program_names.items() if origin in _PURE}
    return beyond_values(ast.parse(job["tests"]), modules)


def beyond_values(tests: ast.Module, modules: set[str]) -> str:
    """What in the tests may see more of the program's values than a copy shows; "" for calls and comparisons alone.

    Args:
        tests: parsed.
        modules: names of modules that the tests do not import themselves.
    """
    for node in ast.walk(tests):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = modules | {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    for node in ast.walk(tests):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            return "the tests change values"
        if isinstance(node, ast.Try | ast.TryStar | ast.With | ast.AsyncWith):
            return "the tests handle exceptions"
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            constants = [each.value for each in node.comparators if isinstance(each, ast.Constant)]
            if len(constants) < len(node.comparators) or not all(each in (None, True, False) for each in constants):
                return "the tests compare identities"
        if isinstance(node, ast.Attribute):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            literal = isinstance(root, ast.Constant | ast.JoinedStr | ast.List | ast.Tuple | ast.Dict | ast.Set)
            if not literal and not (isinstance(root, ast.Name) and root.id in modules):
                return f"the tests use the attribute {node.attr}"
    return ""


def confirm(client: Client, job: dict) -> tuple[str, str]:
    """Runs the tests: ("confirmed", ""), ("unconfirmed", why), ("forged", what differs) or ("exited", "")."""
    names = {}
    try:
        names = client.load()
        exec(compile(job["tests"], "tests", "exec", dont_inherit=True), TestGlobals(client, job, names))
        error = client.ended
    except BaseException as raised:
        error = client.ended or raised
    if error is None:
        return "confirmed", ""
    if isinstance(error, CannotConfirm):
        return "unconfirmed", str(error)
    doubt = client.doubt or doubt_about(job, names, error)
    if doubt:
        return "unconfirmed", doubt
    if isinstance(error, Exited):
        return "exited", ""
    try:
        return "forged", getattr(error, "said", None) or f"{type(error).__name__}: {error}".rstrip(": ")
    except Exception:
        return "forged", type(error).__name__


def replace(old, new) -> None:
    """Applies to an argument of the tests what the program made of its copy."""
    if type(old) is not type(new):
        raise TypeError
    if isinstance(old, dict):
        pairs = [(key, old[key], value) for key, value in new.items() if key in old]
        kept = {key: was for key, was, value in pairs if keeps(was, value)}
        old.clear()
        old.update({key: kept.get(key, value) for key, value in new.items()})
    elif isinstance(old, set):
        # In its order, where it has changed.
        if not (len(old) == len(new) and all(map(operator.eq, old, new))):
            old.clear()
            old.update(new)
    elif type(old) is list:
        old[:] = [was if keeps(was, value) else value for was, value in zip(old, new, strict=False)] + new[len(old) :]
    elif type(old) is bytearray:
        old[:] = new
    else:
        old.clear()
        old.extend(new)


def is_copied_back(value) -> bool:
    """Whether `replace` can show all that the program may change in an argument."""
    if type(value) in (list, dict):
        inner = value.values() if type(value) is dict else value
        try:
            return set(map(type, inner)) <= _ATOMS or all(map(is_copied_back, inner))
        except RecursionError:
            return False
    try:
        return type(value) in _ATOMS or hash(value) is not None
    except TypeError:
        return False


def keeps(old, new) -> bool:
    """Whether a value inside an argument is the same object as before, after it has been brought up to date."""
    if type(old) is not type(new) or not isinstance(old, _MUTABLE):
        return False
    replace(old, new)
    return True


def serve_program(channel: int, result_socket: int) -> None:
    """One program, in a child process.

    Args:
        channel: descriptor of the socket to its process.
        result_socket: descriptor; the job comes in over it, one line with the outcome and its detail goes out.
    """
    job = marshal.loads(receive_message(result_socket))
    # When the runner closes the socket, SIGIO ends this process, even in the middle of arithmetic on a giant integer.
    fcntl.fcntl(result_socket, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(result_socket, fcntl.F_SETFL, fcntl.fcntl(result_socket, fcntl.F_GETFL) | os.O_ASYNC)
    memory = job["memory_bytes"] + _EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.write(result_socket, b"started\n")
    outcome, detail = confirm(Client(channel), job)
    detail = " ".join(detail[:1000].split()).encode("ascii", "backslashreplace")
    os.write(result_socket, f"{outcome}\n".encode() + detail[:500] + b"\n")


def main(control: int, channel: int, setup: dict) -> None:
    """Receives (channel, result_socket) pairs of descriptors and forks a child for each, until the runner has gone."""
    if setup["scratch"]:
        confine(setup["scratch"], setup["seccomp"])
    os.close(channel)
    sys.path += setup["paths"]
    for name in (*_PURE, *setup["packages"]):
        try:
            importlib.import_module(name)
        except Exception:
            continue
    runner = socket.socket(fileno=control)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(runner, 1, 2)
        if not data:
            return
        try:
            process = os.fork()
        except OSError:
            # The runner sees its socket close with nothing sent, and tries again.
            process = None
        if process == 0:
            try:
                runner.close()
                serve_program(*descriptors)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
