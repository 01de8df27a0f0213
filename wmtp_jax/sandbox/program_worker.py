"""The process that runs an untrusted program. Started alone in its sandbox; imports nothing of this package.

Nothing in here is trusted once the program has begun: the tests and their expected values are in another process
(test_worker.py), which asks this one to call functions and gets plain values back. Taking over this process, reading
its frames or memory, sending wrong replies or leaving early leads to a failure.
"""

import _pickle
import builtins
import io
import os
import resource
import sys

_PLAIN = {type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset}
_MUTABLE = (list, dict, set, bytearray)
_FILE_BYTES, _OPEN_FILES, _PROCESSES, _RESERVE_BYTES = 16 << 20, 64, 64, 8 << 20

# Values of the standard library that are sent as values: type -> the arguments that rebuild them.
_VALUES = {
    "builtins.complex": lambda x: (x.real, x.imag),
    "builtins.range": lambda x: (x.start, x.stop, x.step),
    "builtins.dict_keys": list,
    "builtins.dict_items": list,
    "collections.OrderedDict": lambda x: (list(x.items()),),
    "collections.Counter": lambda x: (dict(x),),
    "collections.defaultdict": lambda x: (None, dict(x)),
    "collections.deque": lambda x: (list(x), x.maxlen),
    "decimal.Decimal": lambda x: (str(x),),
    "fractions.Fraction": lambda x: (x.numerator, x.denominator),
    "datetime.date": lambda x: (x.year, x.month, x.day),
    "datetime.datetime": lambda x: (x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond),
    "datetime.time": lambda x: (x.hour, x.minute, x.second, x.microsecond),
    "datetime.timedelta": lambda x: (x.days, x.seconds, x.microseconds),
}


class ProgramWorker:
    """Answers the test worker's requests: load the program, call its functions, read its names."""

    def __init__(self, channel: int):
        self.channel = channel
        self.objects = []
        self.numbers = {}
        self.exit = None
        self.program = type(sys)("__main__")

    def serve(self) -> None:
        """Answers requests until the test worker says to finish."""
        self.send(("ready",))
        while (request := self.receive())[0] != "finish":
            self.reply(request)

    def reply(self, request: tuple) -> None:
        answer = self.answer(*request)
        try:
            data = self.dumps(answer)
        except BaseException as error:
            data = self.dumps(self.describe(error))
        self.write(data)

    def answer(self, operation: str, *operands) -> tuple:
        """One request: ("ok", value, changed arguments or None) or ("raise", class names, arguments, text)."""
        try:
            if operation == "call":
                return self.call(*operands)
            return ("ok", getattr(self, "do_" + operation)(*operands), None)
        except BaseException as error:
            if operation == "load" and isinstance(error, SystemExit):
                self.exit = error
            return self.describe(error)
        finally:
            flush(sys.stdout)

    def call(self, function, arguments: tuple, keywords: dict) -> tuple:
        given = arguments + tuple(keywords.values())
        mutable = any(isinstance(value, _MUTABLE) for value in given)
        before = self.dumps(given) if mutable else None
        value = function(*arguments, **keywords)
        return ("ok", value, given if mutable and self.dumps(given) != before else None)

    def do_load(self, source: str, memory_bytes: int, cpu_seconds: int) -> dict:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes + _RESERVE_BYTES))
        for kind, limit in (
            (resource.RLIMIT_CPU, cpu_seconds),
            (resource.RLIMIT_FSIZE, _FILE_BYTES),
            (resource.RLIMIT_NOFILE, _OPEN_FILES),
            (resource.RLIMIT_NPROC, _PROCESSES),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (limit, limit))
        sys.modules["__main__"] = self.program
        sys.argv = ["program.py"]
        # In other interpreters these come from the module site, which is not loaded here.
        builtins.exit = builtins.quit = sys.exit
        exec(compile(source, "program.py", "exec"), self.program.__dict__)
        names = self.program.__dict__.items()
        return {name: value.__name__ if type(value) is type(sys) else None for name, value in names}

    def do_define(self, source: str) -> None:
        exec(compile(source, "tests.py", "exec"), self.program.__dict__)

    def do_name(self, name: str):
        return self.program.__dict__[name]

    def do_get(self, target, name: str):
        return getattr(target, name)

    def do_set(self, target, name: str, value) -> None:
        setattr(target, name, value)

    def do_delete(self, target, name: str) -> None:
        delattr(target, name)

    def do_special(self, name: str, target, *operands):
        method = getattr(type(target), name, None)
        if method is None:
            raise TypeError(f"{type(target).__name__!r} object has no {name}")
        return method(target, *operands)

    def do_truth(self, target) -> bool:
        return bool(target)

    def do_hash(self, target) -> int:
        return hash(target)

    def do_iterate(self, target):
        return iter(target)

    def do_instance(self, target, kind) -> bool:
        return isinstance(target, kind)

    def describe(self, error: BaseException) -> tuple:
        names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
        if isinstance(error, MemoryError):
            # Replying takes memory: free what the program's frames hold, and use the reserve.
            error.__traceback__ = None
            resource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[1],) * 2)
        try:
            text = str(error)
        except BaseException:
            text = ""
        return ("raise", [type(error).__name__, *names], error.args, text)

    def call_back(self, number: int):
        """A function of the tests, as the program sees it."""

        def function(*arguments, **keywords):
            self.send(("callback", number, arguments, keywords))
            request = self.receive()
            while request[0] not in ("returned", "failed"):
                self.reply(request)
                request = self.receive()
            if request[0] == "failed":
                raise request[1]
            return request[1]

        return function

    def dumps(self, message) -> bytes:
        stream = io.BytesIO()
        _ReplyPickler(self, stream).dump(message)
        return stream.getvalue()

    def send(self, message: tuple) -> None:
        self.write(self.dumps(message))

    def write(self, data: bytes) -> None:
        data = memoryview(len(data).to_bytes(8, "little") + data)
        while data:
            data = data[os.write(self.channel, data) :]

    def receive(self) -> tuple:
        size = int.from_bytes(self.read(8), "little")
        return _RequestUnpickler(self, io.BytesIO(self.read(size))).load()

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self.channel, min(size, 1 << 20))
            if not part:
                os._exit(1)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _ReplyPickler(_pickle.Pickler):
    """Sends plain values as they are, everything else as a reference to an object that stays here."""

    def __init__(self, worker: ProgramWorker, stream: io.BytesIO):
        super().__init__(stream, 5)
        self.worker = worker

    def persistent_id(self, value):
        kind = type(value)
        if kind in _PLAIN:
            return None
        if kind is type(sys):
            return ("object", self.number(value))
        if value is NotImplemented or value is Ellipsis:
            return ("constant", repr(value))
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _VALUES and getattr(sys.modules[kind.__module__], kind.__qualname__, kind) is kind:
            return ("value", name, _VALUES[name](value))
        for plain in (int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset):
            if isinstance(value, plain):
                return ("plain", plain(value))
        if isinstance(value, type) and kind is type and value.__module__ == "builtins":
            return ("type", value.__name__)
        return ("object", self.number(value))

    def number(self, value) -> int:
        number = self.worker.numbers.get(id(value))
        if number is None:
            number = self.worker.numbers[id(value)] = len(self.worker.objects)
            self.worker.objects.append(value)
        return number


class _RequestUnpickler(_pickle.Unpickler):
    def __init__(self, worker: ProgramWorker, stream: io.BytesIO):
        super().__init__(stream)
        self.worker = worker

    def persistent_load(self, reference):
        kind, content = reference
        if kind == "object":
            return self.worker.objects[content]
        return iter(content) if kind == "iterator" else self.worker.call_back(content)


def flush(stream) -> None:
    """The program may have replaced or closed the stream."""
    try:
        stream.flush()
    except BaseException:
        return


def main() -> None:
    worker = ProgramWorker(int(sys.argv[1]))
    worker.serve()
    if worker.exit is not None:
        raise worker.exit
