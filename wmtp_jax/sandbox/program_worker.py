"""The process that runs an untrusted program in one of its two steps. Started alone in a sandbox of its own, as soon as
a thread needs its next one.

It never runs a line of the program itself, but forks a child for that and says how it ended. In the first step the
child runs program and tests as the benchmark's own judge does. In the second it has the program alone and calls its
functions for the tests, which are in another process (test_worker.py). Nothing that a child says is trusted: a pass of
the first is a claim, and what the second answers is data.
"""

import builtins
import importlib
import io
import marshal
import os
import resource
import sys
import types

from wmtp_jax.sandbox.confine import confine, install, receive_message, send_message
from wmtp_jax.sandbox.values import Decoder, NotCarriedError, encode

_FILE_BYTES, _OPEN_FILES, _PROCESSES, _RESERVE_BYTES = 16 << 20, 64, 64, 8 << 20
_MUTABLE = ("list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter")
_FILE = "program.py"
_ATOMS = {type(None), bool, int, float, complex, str, bytes}
_FUNCTIONS = {types.FunctionType, types.BuiltinFunctionType, types.MethodType}


def main(control: int, channel: int, setup: dict) -> None:
    """Says "ready", receives the job, runs its step and says how it ended."""
    if setup["scratch"]:
        confine(setup["scratch"], setup["seccomp"])
    os.environ.clear()
    sys.path += setup["paths"]
    for name in setup["packages"]:
        try:
            importlib.import_module(name)
        except Exception:
            continue  # the import in the tests says why
    os.write(control, b"ready\n")
    job = marshal.loads(receive_message(control))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(control)
        os.close(read)
        if setup["no_fork"]:
            install(setup["no_fork"])
        del setup
        return confirmed_step(job, write, channel) if job["tests_apart"] else plain_step(job, write, channel)
    os.close(write)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    reason, _, detail = os.read(read, 4096).decode("ascii", "replace").partition("\n")
    os.write(control, f"{status}\n{reason}\n{detail[:2000].split(chr(10))[0]}\n".encode())
    os._exit(0)


def namespace_of(job: dict) -> dict:
    """Where the program runs: `exec(program, {})` leaves no name, so that it finds that of builtins."""
    limits = [
        (resource.RLIMIT_CPU, job["cpu_seconds"]),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, _PROCESSES),
        (resource.RLIMIT_CORE, 0),
    ]
    for kind, limit in limits:
        resource.setrlimit(kind, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (job["memory_bytes"], job["memory_bytes"] + _RESERVE_BYTES))
    sys.argv = [_FILE]
    # In other interpreters these come from the module site, which is not loaded here.
    builtins.exit = builtins.quit = sys.exit
    if job["module_name"] == "builtins":
        return {}
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    return module.__dict__


def plain_step(job: dict, report: int, channel: int) -> None:
    """Program and tests in one namespace; a program without tests ends as any interpreter does."""
    os.close(channel)
    write, leave, whole = os.write, os._exit, not job["tests"]
    namespace = namespace_of(job)
    failure, ending = None, None
    try:
        if whole:
            namespace["__file__"] = os.path.abspath(_FILE)
            with open(_FILE, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
                file.write(job["source"])
        else:
            sys.stdout.reconfigure(errors="backslashreplace")
        exec(compile_program(job), namespace)
    except BaseException as error:
        failure, ending = classify(error, job), error
    if failure is None and not whole:
        failure = ("passed", "")
    if failure:
        # Only letters, digits and marks of ASCII, in one line.
        detail = " ".join(failure[1][:1000].split()).encode("ascii", "backslashreplace")[:500]
        write(report, failure[0].encode() + b"\n" + detail + b"\n")
    if not whole:
        flush(sys.stdout)
        leave(0)
    if ending is not None:
        raise ending


def compile_program(job: dict):
    """The code of both together, as one source."""
    source = f"{job['source']}\n{job['tests']}" if job["tests"] else job["source"]
    try:
        return compile(source, _FILE, "exec", dont_inherit=True)
    except Exception as error:
        raise NoCodeError(error) from None


class NoCodeError(Exception):
    """The source does not compile."""


def classify(error: BaseException, job: dict) -> tuple[str, str]:
    """The verdict's reason and detail."""
    if isinstance(error, NoCodeError):
        return classify_source(error.args[0], job)
    if isinstance(error, MemoryError):
        # Replying takes memory: free what the program's frames hold, and use the reserve.
        error.__traceback__ = None
        resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        return "memory", "MemoryError"
    said = describe(error)
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "exited", said
    last, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == _FILE:
            last = trace.tb_lineno
        trace = trace.tb_next
    lines = lambda text: text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    in_tests = last - len(lines(job["source"]))
    if not job["tests"]:
        # A source alone, which reads nothing, may end with asserts of its own.
        own = job["tests"] is not None and isinstance(error, AssertionError)
        return "wrong answer" if own else "exception", said
    if in_tests <= 0:
        return "exception", said
    if isinstance(error, AssertionError):
        return "wrong answer", f"{lines(job['tests'])[in_tests - 1].strip()} {error}"
    return "broken tests" if isinstance(error, ImportError) else "exception", said


def classify_source(error: Exception, job: dict) -> tuple[str, str]:
    """Whether the program or its tests do not compile."""
    for reason, source in (("no code", job["source"]), ("broken tests", job["tests"] or "")):
        try:
            compile(source, _FILE, "exec", dont_inherit=True)
        except Exception as own:
            return reason, describe(own)
    return "no code", describe(error)


def describe(error: BaseException) -> str:
    """Class and message; the program may have made a message that raises."""
    try:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    except BaseException:
        return type(error).__name__


def flush(stream) -> None:
    """The program may have replaced or closed the stream."""
    try:
        stream.flush()
    except BaseException:
        return


def confirmed_step(job: dict, report: int, channel: int) -> None:
    """The program alone, which answers the test worker's requests until that has gone."""
    os.close(report)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    sys.stdout.reconfigure(errors="backslashreplace")
    Program(job, channel).serve()
    os._exit(0)


class Program:
    """The program in the second step.

    Args:
        job: with its source.
        channel: descriptor of the socket to the test worker.
    """

    def __init__(self, job: dict, channel: int):
        self.channel = channel
        self.functions = []
        self.source = job["source"]
        self.namespace = namespace_of(job)

    def serve(self) -> None:
        """Answers requests."""
        self.reply(("load",))
        while True:
            try:
                request = self.receive()
            except NotCarriedError as error:
                self.send(("cannot", f"the tests give the program {error}"))
            else:
                self.reply(request)

    def reply(self, request: tuple) -> None:
        """Answers one request: ("ok", ..), ("raise", class, arguments, text) or ("cannot", why)."""
        try:
            answer, held = getattr(self, "do_" + request[0])(*request[1:])
        except BaseException as error:
            answer, held = self.describe(error), False
        try:
            self.send(answer, held)
        except NotCarriedError as error:
            self.send(("cannot", f"{request[1]} is or gives {error}" if request[1:] else str(error)))

    def do_load(self) -> tuple:
        exec(compile(self.source, _FILE, "exec", dont_inherit=True), self.namespace)
        return ("ok", {name: origin(value) for name, value in self.namespace.items() if type(name) is str}), False

    def do_get(self, name: str) -> tuple:
        value = self.namespace[name]
        wrapped = getattr(value, "__wrapped__", None)
        if type(value) in _FUNCTIONS or type(wrapped) in _FUNCTIONS:
            # By number, as the program may give its name to another one.
            if not any(value is each for each in self.functions):
                self.functions.append(value)
            return ("function", next(i for i, each in enumerate(self.functions) if each is value)), False
        return ("ok", value, None, None), may_change(value)

    def do_call(self, name: str, number: int, arguments: tuple, keywords: dict) -> tuple:
        value = self.functions[number](*arguments, **keywords)
        given = (*arguments, *keywords.values())
        mutable = {i: each for i, each in enumerate(given) if type(each).__name__ in _MUTABLE}
        place = next((i for i, each in mutable.items() if each is value), None)
        # What the program still holds on to may change later, which no copy shows. Here, an argument is referred to by
        # the message, `given`, `mutable`, `each` and the call; a result by its name and the call.
        if place is not None:
            value = None
        held = (may_change(value) and sys.getrefcount(value) > 2) or shares_values(value)
        for each in mutable.values():
            held = held or sys.getrefcount(each) > 5
        held = held or any(map(shares_values, given))
        return ("ok", value, place, mutable or None), held

    def describe(self, error: BaseException) -> tuple:
        if isinstance(error, MemoryError):
            error.__traceback__ = None
            resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        kind = type(error)
        said = describe(error)
        if getattr(builtins, kind.__name__, None) is not kind or not issubclass(kind, Exception):
            return ("cannot", f"the program raised {kind.__name__}, which is no exception of the standard library")
        try:
            encode(error.args)
        except NotCarriedError as reason:
            return ("cannot", f"the program raised {kind.__name__} with {reason}")
        return ("raise", kind.__name__, error.args, said)

    def call_back(self, number: int):
        """A function of the tests, as the program sees it."""

        def function(*arguments, **keywords):
            self.send(("callback", number, arguments, keywords))
            request = self.receive()
            while request[0] not in ("returned", "failed"):
                self.reply(request)
                request = self.receive()
            if request[0] == "failed":
                raise getattr(builtins, request[1])(*request[2])
            return request[1]

        return function

    def send(self, message: tuple, held: bool = False) -> None:
        data, has_nan, has_view = encode(message)
        send_message(self.channel, bytes([(held or has_view) + 2 * has_nan]) + data)

    def receive(self) -> tuple:
        try:
            data = receive_message(self.channel)
        except EOFError:
            os._exit(0)
        return Decoder(io.BytesIO(data), self.call_back).load()


def may_change(value) -> bool:
    """Whether it can be changed, or something in it."""
    return type(value).__name__ in _MUTABLE or (type(value) is tuple and not set(map(type, value)) <= _ATOMS)


def shares_values(value) -> bool:
    """Whether anything but the value itself refers to something in it that can be changed."""
    if not may_change(value):
        return False
    values = value.values() if isinstance(value, dict) else value
    if set(map(type, values)) <= _ATOMS:
        return False
    for each, count in zip(values, reference_counts(values), strict=True):
        if may_change(each) and (count > _UNSHARED or shares_values(each)):
            return True
    return False


def reference_counts(values) -> list[int]:
    return [sys.getrefcount(each) for each in values]


(_UNSHARED,) = reference_counts([[]])


def origin(value) -> str:
    """The standard module that a module is, or "module:name" of what comes from one; else ""."""
    if type(value) is types.ModuleType:
        return value.__name__
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    found = sys.modules.get(module) if isinstance(module, str) else None
    return f"{module}:{name}" if found and isinstance(name, str) and vars(found).get(name) is value else ""
