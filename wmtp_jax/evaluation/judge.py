"""The process that runs the tests. Started once in a sandbox of its own, with nothing of this package but link.py.

For every program it forks a child that speaks with the program's process (guest.py) over a socket. The tests run here,
against stand-ins for the program's objects, and no line of the program ever does. What comes from the program's process
is data: it is decoded into builtin values, so `==` is the builtin's own, or into a `Remote`, which no value equals.
"""

import ast
import builtins
import fcntl
import importlib
import io
import os
import pickle
import resource
import signal
import socket
import symtable
import sys
import traceback

from wmtp_jax.evaluation.link import Gone, Link

_START_SECONDS = 20
_SPARE_BYTES = 512 << 20
_MODULES = {
    *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools"),
    *("json", "math", "operator", "random", "re", "statistics", "string", "time", "typing"),
}


class Timeout(BaseException):
    """The program's time is up."""


class Names(dict):
    """The tests' global names; those that the tests do not define are looked up in the program."""

    def __init__(self, link: Link, theirs: dict, tests: str):
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.link = link
        free = free_names(tests) - self.keys()
        nodes = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Attribute)]
        attributes = [(ast.unparse(node.value), node.attr) for node in nodes]
        modules = {name: module for name, module in theirs.items() if module in _MODULES}
        wanted = set()
        for name in free:
            used = {attribute for owner, attribute in attributes if owner == name}
            if name not in _MODULES or not used or not used <= set(dir(importlib.import_module(name))):
                wanted.add(name)
            elif name in theirs:
                # `math.isclose` means the module, whatever the program calls math.
                modules[name] = name
        for name in modules.keys() & free:
            self[name] = importlib.import_module(modules[name])
        # A builtin's name is the program's only where the tests want nothing else of the program: `sum` may be the
        # function under test, but a program that brings its own `all` does not change what the tests mean by it.
        replaced = {name for name in theirs if hasattr(builtins, name)}
        self.unclear = wanted & replaced if all(hasattr(builtins, name) for name in wanted) else set()
        self.theirs = theirs.keys() - replaced
        if len(self.unclear) == 1:
            self.theirs |= self.unclear

    def __missing__(self, name):
        if name in self.theirs:
            return self.link.ask("name", name)
        if name in self.unclear:
            raise NameError(f"name {name!r} is a builtin's, and so is another that program and tests share")
        raise KeyError(name)


def free_names(tests: str) -> set[str]:
    """The names that the tests read and bind nowhere."""
    tables = [symtable.symtable(tests, "tests", "exec")]
    for table in tables:
        tables += table.get_children()
    symbols = [symbol for table in tables for symbol in table.get_symbols() if symbol.is_global()]
    bound = {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    return {symbol.get_name() for symbol in symbols if symbol.is_referenced()} - bound


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
    """A literal under a name that the program, if there is one before it, does not use."""
    match statement:
        case ast.Assign([ast.Name(name)], value) if program:
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
    classes = [statement for statement in tree.body if _is_data_class(statement)]
    if classes:
        # What makes them is imported with them: `@dataclass`.
        needed = [each for each in tree.body if each in classes or isinstance(each, ast.Import | ast.ImportFrom)]
        link.ask("define", "\n".join(map(ast.unparse, needed)))
        tree.body = [statement for statement in tree.body if statement not in classes]
        theirs |= {statement.name: None for statement in classes}
    try:
        exec(compile(tree, "tests", "exec"), Names(link, theirs, tests))
    except AssertionError as error:
        if hasattr(error, "program_says"):
            raise
        return ("wrong answer", f"{_line(tests, error)} {_text(error)}")
    if link.left:
        raise link.left
    return ("passed", "")


def _line(tests: str, error: BaseException) -> str:
    """The line of the tests that raised the exception."""
    steps = traceback.walk_tb(error.__traceback__)
    numbers = [number for frame, number in steps if frame.f_code.co_filename == "tests"]
    return tests.splitlines()[numbers[-1] - 1].strip()


def _is_data_class(statement: ast.stmt) -> bool:
    """A class whose objects the program gets, so it has to be defined there; one that asserts belongs to the tests."""
    return isinstance(statement, ast.ClassDef) and not any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Attribute) and node.attr.startswith("assert"))
        for node in ast.walk(statement)
    )


def finish(link: Link) -> None:
    """Lets the program's process end as any interpreter does: threads joined, output flushed."""
    link.send(("finish",))
    try:
        link.read(1)
    except Gone:
        return


def judge_program(link: Link, job: dict) -> tuple[str, str]:
    """The verdict on one program, whatever it does."""
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
        detail = getattr(error, "program_says", None) or f"{type(error).__name__}: {_text(error)}".rstrip(": ")
        if isinstance(error, MemoryError):
            return ("memory", detail)
        return ("exited" if isinstance(error, SystemExit | KeyboardInterrupt) else "exception", detail)


def _text(error: BaseException) -> str:
    """What the exception says, where an object of the program in it lets it."""
    try:
        return str(error)
    except Exception:
        return ""


def child(channel: int, line: int) -> None:
    """One program: the job comes in over the line; the nonce goes out when the program is there, then the verdict."""
    with open(line, "rb", closefd=False) as stream:
        job = pickle.load(stream)
    # When the evaluator closes the line, SIGIO ends this process even in the midst of arithmetic on a giant integer.
    fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    memory = job["memory_bytes"] + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    link = Link(channel)

    def ring(*_):
        link.left = Timeout()
        raise link.left

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, _START_SECONDS)
    if link.receive() != ("ready",):
        return
    os.write(line, f"{job['nonce']}\n".encode())
    reason, detail = judge_program(link, job)
    detail = " ".join(detail[:1000].split()).encode("ascii", "backslashreplace")
    os.write(line, f"{reason}\n".encode() + detail[:500] + b"\n")


def main() -> None:
    """Takes (channel, line) pairs of descriptors and forks a child for each, until the evaluator has gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not data:
            return
        try:
            process = os.fork()
        except OSError:
            # The evaluator sees its line close with nothing said on it, and asks again.
            process = None
        if process == 0:
            try:
                control.close()
                child(*descriptors)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
