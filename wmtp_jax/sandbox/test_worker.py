"""The process that runs the tests. Started once in a sandbox of its own, with program_client.py and nothing else.

For every program it forks a child that talks to the program worker (program_worker.py) over a socket. The tests run
here, against proxies of the program's objects; no line of the program does. What the program worker sends is data: it
is decoded into builtin values, so `==` is the builtin's own, or into a `RemoteObject`, which equals no value.
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

from wmtp_jax.sandbox.program_client import ProgramClient, WorkerExited

_START_SECONDS = 20
_EXTRA_BYTES = 512 << 20
_MODULES = {
    *("bisect", "cmath", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "itertools"),
    *("json", "math", "operator", "random", "re", "statistics", "string", "time", "typing"),
}


class Timeout(BaseException):
    """The program has used up its time."""


class TestGlobals(dict):
    """The tests' global names; those that the tests do not define are looked up in the program."""

    def __init__(self, client: ProgramClient, program_names: dict, tests: str):
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.client = client
        free = free_names(tests) - self.keys()
        nodes = [node for node in ast.walk(ast.parse(tests)) if isinstance(node, ast.Attribute)]
        attributes = [(ast.unparse(node.value), node.attr) for node in nodes]
        modules = {name: module for name, module in program_names.items() if module in _MODULES}
        wanted = set()
        for name in free:
            used = {attribute for owner, attribute in attributes if owner == name}
            if name not in _MODULES or not used or not used <= set(dir(importlib.import_module(name))):
                wanted.add(name)
            elif name in program_names:
                # `math.isclose` means the module, whatever the program calls math.
                modules[name] = name
        for name in modules.keys() & free:
            self[name] = importlib.import_module(modules[name])
        # A builtin's name means the program's function only where the tests use no other name of the program: `sum` may
        # be the function under test, but a program that defines its own `all` does not change that of the tests.
        replaced = {name for name in program_names if hasattr(builtins, name)}
        self.ambiguous = wanted & replaced if all(hasattr(builtins, name) for name in wanted) else set()
        self.program_names = program_names.keys() - replaced
        if len(self.ambiguous) == 1:
            self.program_names |= self.ambiguous

    def __missing__(self, name):
        if name in self.program_names:
            return self.client.request("name", name)
        if name in self.ambiguous:
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


def split_tests(source: str) -> tuple[str, str]:
    """Parts a program from the tests at its end: trailing asserts, or check functions with asserts and their calls."""
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
    # Only the line ends of Python's grammar, which are fewer than those of str.splitlines.
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
    """A literal assigned to a name that the program before it does not use."""
    match statement:
        case ast.Assign([ast.Name(name)], value) if program:
            try:
                ast.literal_eval(value)
            except Exception:
                return False
            return not any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(ast.Module(program)))
    return False


def run_tests(client: ProgramClient, job: dict) -> tuple[str, str]:
    """Loads the program and runs its tests; returns the verdict's reason and detail."""
    source, tests = job["source"], job["tests"]
    if not tests and not job["whole"]:
        source, tests = split_tests(source)
    try:
        program_names = client.request("load", source, job["memory_bytes"], int(job["timeout_s"]) + 2)
    except SyntaxError as error:
        return ("no code", error.program_message)
    except SystemExit:
        if not tests:
            finish(client)
        raise
    if not tests:
        finish(client)
        return ("finished", "")
    try:
        tree = ast.parse(tests)
    except (SyntaxError, ValueError) as error:
        return ("broken tests", str(error))
    classes = [statement for statement in tree.body if _is_data_class(statement)]
    if classes:
        # With the imports that they need: `@dataclass`.
        needed = [each for each in tree.body if each in classes or isinstance(each, ast.Import | ast.ImportFrom)]
        client.request("define", "\n".join(map(ast.unparse, needed)))
        tree.body = [statement for statement in tree.body if statement not in classes]
        program_names |= {statement.name: None for statement in classes}
    try:
        exec(compile(tree, "tests", "exec"), TestGlobals(client, program_names, tests))
    except AssertionError as error:
        if hasattr(error, "program_message"):
            raise
        return ("wrong answer", f"{_line(tests, error)} {_text(error)}")
    if client.ended:
        raise client.ended
    return ("passed", "")


def _line(tests: str, error: BaseException) -> str:
    """The line of the tests that raised the exception."""
    steps = traceback.walk_tb(error.__traceback__)
    numbers = [number for frame, number in steps if frame.f_code.co_filename == "tests"]
    return tests.splitlines()[numbers[-1] - 1].strip()


def _is_data_class(statement: ast.stmt) -> bool:
    """A class without asserts: the program gets its objects, so it has to be defined in the program worker."""
    return isinstance(statement, ast.ClassDef) and not any(
        isinstance(node, ast.Assert) or (isinstance(node, ast.Attribute) and node.attr.startswith("assert"))
        for node in ast.walk(statement)
    )


def finish(client: ProgramClient) -> None:
    """Lets the program worker end as any interpreter does: threads joined, output flushed."""
    client.send(("finish",))
    try:
        client.read(1)
    except WorkerExited:
        return


def judge(client: ProgramClient, job: dict) -> tuple[str, str]:
    """The verdict's reason and detail, whatever the program does."""
    try:
        try:
            # Repeated, because a test may catch the first one.
            signal.setitimer(signal.ITIMER_REAL, job["timeout_s"], 0.2)
            return run_tests(client, job)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Timeout:
        return ("timeout", "")
    except WorkerExited:
        return ("exited", "")
    except BaseException as error:
        detail = getattr(error, "program_message", None) or f"{type(error).__name__}: {_text(error)}".rstrip(": ")
        if isinstance(error, MemoryError):
            return ("memory", detail)
        return ("exited" if isinstance(error, SystemExit | KeyboardInterrupt) else "exception", detail)


def _text(error: BaseException) -> str:
    """The exception's message; "" where an object of the program in it raises."""
    try:
        return str(error)
    except Exception:
        return ""


def serve_program(channel: int, result_socket: int) -> None:
    """One program, in a child process.

    Args:
        channel: descriptor of the socket to its program worker.
        result_socket: descriptor; the job comes in over it, the nonce goes out once the program worker is ready, then
            reason and detail, one line each.
    """
    with open(result_socket, "rb", closefd=False) as stream:
        job = pickle.load(stream)
    # When the runner closes the socket, SIGIO ends this process, even in the middle of arithmetic on a giant integer.
    fcntl.fcntl(result_socket, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(result_socket, fcntl.F_SETFL, fcntl.fcntl(result_socket, fcntl.F_GETFL) | os.O_ASYNC)
    memory = job["memory_bytes"] + _EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    client = ProgramClient(channel)

    def time_out(*_):
        client.ended = Timeout()
        raise client.ended

    signal.signal(signal.SIGALRM, time_out)
    signal.setitimer(signal.ITIMER_REAL, _START_SECONDS)
    if client.receive() != ("ready",):
        return
    os.write(result_socket, f"{job['nonce']}\n".encode())
    reason, detail = judge(client, job)
    detail = " ".join(detail[:1000].split()).encode("ascii", "backslashreplace")
    os.write(result_socket, f"{reason}\n".encode() + detail[:500] + b"\n")


def main() -> None:
    """Receives (channel, result_socket) pairs of descriptors and forks a child for each, until the runner has gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not data:
            return
        try:
            process = os.fork()
        except OSError:
            # The runner sees its socket close with nothing sent, and tries again.
            process = None
        if process == 0:
            try:
                control.close()
                serve_program(*descriptors)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
