"""The process that runs the tests. Started once in a sandbox of its own; imports nothing of this package.

For every program it forks a child that speaks with the program's process (guest.py) over a socket. The tests run here,
against stand-ins for the program's objects, and no line of the program ever does. What comes from the program's process
is data: it is decoded into builtin values, so `==` is the builtin's own, or into a `Remote`, which no value equals.
"""

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import importlib
import io
import os
import pickle
import pickletools
import resource
import signal
import socket
import sys
import types

_START_SECONDS = 20
_SPARE_BYTES = 512 << 20
_MODULES = {
    *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools"),
    *("json", "math", "operator", "random", "re", "statistics", "string", "time", "typing"),
}
_VALUES = {
    "builtins.complex": complex,
    "builtins.range": range,
    "builtins.dict_keys": lambda *items: dict.fromkeys(items).keys(),
    "builtins.dict_items": lambda *items: dict(items).items(),
    "collections.OrderedDict": collections.OrderedDict,
    "collections.Counter": collections.Counter,
    "collections.defaultdict": collections.defaultdict,
    "collections.deque": collections.deque,
    "decimal.Decimal": decimal.Decimal,
    "fractions.Fraction": fractions.Fraction,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
}
# A stream can call these (pickle's REDUCE): none makes a thing that compares in its own way, as `type` would.
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)}
_TYPES |= {"NoneType": type(None), "range": range}
_REPLIES = {("ready", 1), ("ok", 3), ("raise", 4), ("callback", 4)}
_CONSTANTS = {"NotImplemented": NotImplemented, "Ellipsis": Ellipsis}
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMBINED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")


class Timeout(BaseException):
    """The program's time is up."""


class Gone(BaseException):
    """The program's process has left, or speaks no sense."""


class Remote:
    """An object of the program. What it does happens over there; what it equals is decided here."""

    __slots__ = ("_link", "_place")

    def __init__(self, link, place):
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_place", place)

    def __call__(self, *arguments, **keywords):
        return self._link.call(self, arguments, keywords)

    def __getattr__(self, name):
        return self._link.ask("get", self, name)

    def __setattr__(self, name, value):
        self._link.ask("set", self, name, value)

    def __delattr__(self, name):
        self._link.ask("delete", self, name)

    def __bool__(self):
        return bool(self._link.ask("truth", self))

    def __hash__(self):
        return hash(self._link.ask("hash", self))

    def __iter__(self):
        iterator = self._link.ask("iterate", self)
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __instancecheck__(self, value):
        return isinstance(value, Remote) and bool(self._link.ask("instance", value, self))


def _forward(name):
    def method(self, *operands):
        return self._link.ask("special", name, self, *operands)

    return method


def _forward_between_remotes(name):
    # A plain operand may be an expected value: the program must neither see it nor decide what it equals.
    def method(self, other):
        return self._link.ask("special", name, self, other) if isinstance(other, Remote) else NotImplemented

    return method


for _name in ["next", "len", "str", "repr", "getitem", "setitem", "delitem", "enter", "exit"]:
    setattr(Remote, f"__{_name}__", _forward(f"__{_name}__"))
for _name in _COMPARED + _COMBINED:
    setattr(Remote, f"__{_name}__", _forward_between_remotes(f"__{_name}__"))


class Link:
    """The judge's end of the channel to one program."""

    def __init__(self, channel: int):
        self.channel = channel
        self.functions = []
        # Once the program has left, no `except:` in the tests brings it back.
        self.left = None

    def ask(self, *request):
        """Sends one request and returns its value; raises what the program raised."""
        return self.exchange(request)[0]

    def call(self, function, arguments: tuple, keywords: dict):
        try:
            value, changed = self.exchange(("call", function, arguments, keywords))
        except StopIteration as error:
            # It would end a loop of the tests as if all were well: `all(map(check, cases))`.
            raise RuntimeError(error.program_says) from None
        if type(changed) is tuple:
            for old, new in zip(arguments + tuple(keywords.values()), changed, strict=False):
                replace(old, new)
        return value

    def exchange(self, request: tuple) -> tuple:
        self.send(request)
        while True:
            reply = self.receive()
            if reply[0] == "callback":
                self.send(self.call_back(*reply[1:]))
            elif reply[0] == "raise":
                raise self.rebuild(*reply[1:])
            else:
                return reply[1:]

    def call_back(self, number: int, arguments: tuple, keywords: dict) -> tuple:
        try:
            return ("returned", self.functions[number](*arguments, **keywords))
        except Exception as error:
            return (
                "failed",
                type(error)(str(error)) if type(error).__module__ == "builtins" else Exception(str(error)),
            )

    def rebuild(self, names: list, arguments: tuple, text: str) -> BaseException:
        """The program's exception, as its nearest builtin class."""
        found = (getattr(builtins, name, None) for name in names if isinstance(name, str))
        kind = next((kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseException)), Exception)
        try:
            error = kind(*arguments)
        except Exception:
            error = Exception(str(text))
        error.program_says = f"{names[0]}: {text}"
        if not issubclass(kind, Exception):
            self.left = self.left or error
        return error

    def send(self, message: tuple) -> None:
        stream = io.BytesIO()
        _Pickler(self, stream).dump(message)
        data = stream.getvalue()
        data = memoryview(len(data).to_bytes(8, "little") + data)
        try:
            while data:
                data = data[os.write(self.channel, data) :]
        except OSError:
            self.lost()

    def lost(self) -> None:
        self.left = self.left or Gone()
        raise self.left

    def receive(self) -> tuple:
        data = self.read(int.from_bytes(self.read(8), "little"))
        try:
            # Setting attributes of what was decoded (BUILD) could bend a value's arithmetic.
            if b"value" in data and any(opcode.name == "BUILD" for opcode, _, _ in pickletools.genops(data)):
                self.lost()
            reply = _Unpickler(self, io.BytesIO(data)).load()
        except MemoryError:
            raise
        except Exception:
            self.lost()
        if type(reply) is not tuple or not reply or (reply[0], len(reply)) not in _REPLIES:
            self.lost()
        return reply

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.read(self.channel, min(size, 1 << 20))
            except OSError:
                part = b""
            if not part:
                self.lost()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _Pickler(pickle.Pickler):
    def __init__(self, link: Link, stream: io.BytesIO):
        super().__init__(stream, 5)
        self.link = link

    def persistent_id(self, value):
        kind = type(value)
        if kind is Remote:
            return ("object", object.__getattribute__(value, "_place"))
        if kind in (types.FunctionType, types.MethodType):
            self.link.functions.append(value)
            return ("function", len(self.link.functions) - 1)
        return ("iterator", list(value)) if kind is types.GeneratorType else None


class _Unpickler(pickle.Unpickler):
    """Builds builtin values only: no name in the stream is ever looked up, so nothing in it can be called."""

    def __init__(self, link: Link, stream: io.BytesIO):
        super().__init__(stream)
        self.link = link

    def find_class(self, module, name):
        raise Gone

    def persistent_load(self, reference):
        kind, *content = reference
        if kind == "object":
            return Remote(self.link, int(content[0]))
        if kind == "value":
            return _VALUES[content[0]](*content[1])
        if kind == "plain":
            return content[0]
        return (_TYPES if kind == "type" else _CONSTANTS)[content[0]]


class Names(dict):
    """The tests' global names; those that the tests do not define are looked up in the program."""

    def __init__(self, link: Link, theirs: dict, used: set):
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.link = link
        modules = {name: module for name, module in theirs.items() if module in _MODULES}
        # A builtin's name is the program's only where the tests use nothing else of the program: `sum` may be the
        # function under test, but a program that brings its own `all` does not change what the tests mean by it.
        others = {name for name in used & theirs.keys() - modules.keys() if not hasattr(builtins, name)}
        self.theirs = {name for name in theirs if not (others and hasattr(builtins, name))}
        for name in modules.keys() & used:
            self[name] = importlib.import_module(modules[name])

    def __missing__(self, name):
        if name not in self.theirs:
            raise KeyError(name)
        return self.link.ask("name", name)


def replace(old, new) -> None:
    """Repeats in the tests' arguments what the program did to its copies."""
    if type(old) is not type(new):
        return
    if type(old) is list:
        if len(old) == len(new):
            for place, (was, value) in enumerate(zip(old, new, strict=True)):
                if type(was) is type(value) and type(was) in (list, dict, set):
                    replace(was, value)
                else:
                    old[place] = value
        else:
            old[:] = new
    elif type(old) is dict:
        for value in old.keys() & new.keys():
            replace(old[value], new[value])
        kept = {key: old[key] if type(old[key]) in (list, dict, set) else new[key] for key in old.keys() & new.keys()}
        values = {key: kept.get(key, value) for key, value in new.items()}
        old.clear()
        old.update(values)
    elif type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is bytearray:
        old[:] = new


def split(source: str) -> tuple[str, str]:
    """A program that carries its own tests: the last statements that are asserts or calls of a check function."""
    try:
        body = ast.parse(source).body
    except Exception:
        return source, ""
    start = len(body)
    while start and (_is_test(body[start - 1]) or _is_test_data(body[start - 1], body[: start - 1])):
        start -= 1
    tests = body[start:]
    if not any(isinstance(node, ast.Assert) for statement in tests for node in ast.walk(statement)):
        return source, ""
    first = min([tests[0].lineno, *(item.lineno for item in getattr(tests[0], "decorator_list", []))])
    if start and body[start - 1].end_lineno >= first:
        return source, ""
    # The line ends that Python's grammar knows, which are fewer than those of str.splitlines.
    lines = io.StringIO(source, newline=None).readlines()
    return "".join(lines[: first - 1]), "".join(lines[first - 1 :])


def _is_test(statement: ast.stmt) -> bool:
    match statement:
        case ast.Assert():
            return True
        case ast.Expr(ast.Call(ast.Name(name))) | ast.FunctionDef(name):
            return name.startswith(("check", "test"))
    return False


def _is_test_data(statement: ast.stmt, program: list[ast.stmt]) -> bool:
    """A literal under a name that the program does not use."""
    match statement:
        case ast.Assign([ast.Name(name)], value):
            try:
                ast.literal_eval(value)
            except Exception:
                return False
            return not any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(ast.Module(program)))
    return False


def try_program(link: Link, job: dict) -> tuple[str, str]:
    """Loads the program and runs its tests; returns the reason and a detail."""
    source, tests = job["source"], job["tests"]
    if not tests and not job["whole"]:
        source, tests = split(source)
    try:
        theirs = link.ask("load", source, job["memory_bytes"], int(job["timeout_s"]) + 2)
    except SyntaxError as error:
        return ("no code", error.program_says)
    except SystemExit:
        if not tests:
            finish(link)
        raise
    if not tests:
        finish(link)
        return ("finished", "")
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError) as error:
        return ("broken tests", str(error))
    classes = [statement for statement in tree.body if isinstance(statement, ast.ClassDef)]
    tree.body = [statement for statement in tree.body if not isinstance(statement, ast.ClassDef)]
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if classes:
        link.ask("define", "\n".join(map(ast.unparse, classes)))
        theirs |= {statement.name: None for statement in classes}
    exec(compile(tree, "tests", "exec"), Names(link, theirs, used))
    if link.left:
        raise link.left
    return ("passed", "")


def finish(link: Link) -> None:
    """Lets the program's process end as any interpreter does: threads joined, output flushed."""
    link.send(("finish",))
    try:
        link.read(1)
    except Gone:
        return


def judge_program(link: Link, job: dict) -> tuple[str, str]:
    """The verdict on one program, whatever it does."""

    def ring(*_):
        link.left = Timeout()
        raise link.left

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _START_SECONDS)
    try:
        ready = link.receive()
    except (Timeout, Gone):
        return ("not started", "")
    if ready != ("ready",):
        return ("not started", "")
    try:
        try:
            # Again and again, because a test may swallow the first one.
            signal.setitimer(signal.ITIMER_REAL, job["timeout_s"], 0.2)
            return try_program(link, job)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Timeout:
        return ("timeout", "")
    except Gone:
        return ("exited", "")
    except BaseException as error:
        said = getattr(error, "program_says", None)
        detail = said or f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError):
            return ("memory", detail)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            return ("exited", detail)
        return ("wrong answer" if isinstance(error, AssertionError) and said is None else "exception", detail)


def child(channel: int, line: int) -> None:
    """One program: the job comes in over the line, the verdict goes out."""
    with open(line, "rb", closefd=False) as stream:
        job = pickle.load(stream)
    memory = job["memory_bytes"] + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    reason, detail = judge_program(Link(channel), job)
    detail = detail[:500].encode("ascii", "backslashreplace").decode().replace("\n", " ")
    os.write(line, f"{job['nonce']}\n{reason}\n{detail[:500]}\n".encode())


def main() -> None:
    """Takes (channel, line) pairs of descriptors and forks a child for each, until the evaluator has gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not data:
            return
        if os.fork() == 0:
            try:
                control.close()
                child(*descriptors)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


main()
