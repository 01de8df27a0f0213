"""The test worker's client of a program worker: sends requests, gets plain values or proxies of objects back.

Runs in the test worker's process (test_worker.py), without the rest of this package.
"""

import builtins
import collections
import datetime
import decimal
import fractions
import io
import os
import pickle
import pickletools
import types

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
# A reply can call these (pickle's REDUCE): none makes an object with its own `==`, as `type` would.
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)}
_TYPES |= {"NoneType": type(None), "range": range}
_REPLIES = {("ready", 1), ("ok", 3), ("raise", 4), ("callback", 4)}
_CONSTANTS = {"NotImplemented": NotImplemented, "Ellipsis": Ellipsis}
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMBINED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")


class WorkerExited(BaseException):
    """The program worker has exited, or sent something that is no reply."""


class RemoteObject:
    """A proxy of an object of the program: its methods run in the program worker, `==` is decided here."""

    __slots__ = ("_client", "_number")

    def __init__(self, client, number):
        object.__setattr__(self, "_client", client)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments, **keywords):
        return self._client.call(self, arguments, keywords)

    def __getattr__(self, name):
        return self._client.request("get", self, name)

    def __setattr__(self, name, value):
        self._client.request("set", self, name, value)

    def __delattr__(self, name):
        self._client.request("delete", self, name)

    def __bool__(self):
        return bool(self._client.request("truth", self))

    def __hash__(self):
        return hash(self._client.request("hash", self))

    def __iter__(self):
        iterator = self._client.request("iterate", self)
        return iterator if isinstance(iterator, RemoteObject) else iter(iterator)

    def __instancecheck__(self, value):
        return isinstance(value, RemoteObject) and bool(self._client.request("instance", value, self))


def _forward(name):
    def method(self, *operands):
        return self._client.request("special", name, self, *operands)

    return method


def _forward_between_proxies(name):
    # A plain operand may be an expected value: the program must neither see it nor decide what it equals.
    def method(self, other):
        return self._client.request("special", name, self, other) if isinstance(other, RemoteObject) else NotImplemented

    return method


for _name in ["next", "len", "str", "repr", "getitem", "setitem", "delitem", "enter", "exit"]:
    setattr(RemoteObject, f"__{_name}__", _forward(f"__{_name}__"))
for _name in _COMPARED + _COMBINED:
    setattr(RemoteObject, f"__{_name}__", _forward_between_proxies(f"__{_name}__"))


class ProgramClient:
    """Calls functions and reads names of one program, in its program worker."""

    def __init__(self, channel: int):
        self.channel = channel
        self.functions = []
        self.remotes = {}
        # Whether objects other than builtin values came: a reply that sets attributes (BUILD) could change their `==`.
        self.values = False
        # Why the program ended; an `except:` in the tests does not undo it.
        self.ended = None

    def request(self, *request):
        """Sends one request and returns its value; raises what the program raised."""
        return self.exchange(request)[0]

    def call(self, function, arguments: tuple, keywords: dict):
        value, changed = self.exchange(("call", function, arguments, keywords))
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
                error = self.rebuild(*reply[1:])
                if isinstance(error, StopIteration) and request[:2] != ("special", "__next__"):
                    # It would end a loop of the tests without an error: `all(map(check, cases))`.
                    error = RuntimeError(error.program_message)
                raise error
            else:
                return reply[1:]

    def call_back(self, number: int, arguments: tuple, keywords: dict) -> tuple:
        try:
            return ("returned", self.functions[number](*arguments, **keywords))
        except Exception as error:
            known = type(error).__module__ == "builtins"
            return ("failed", type(error)(*error.args) if known else Exception(str(error)))

    def rebuild(self, names: list, arguments: tuple, text: str) -> BaseException:
        """The program's exception, as its nearest builtin class."""
        found = (getattr(builtins, name, None) for name in names if isinstance(name, str))
        kind = next((kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseException)), Exception)
        try:
            error = kind(*arguments)
        except Exception:
            error = Exception(str(text))
        error.program_message = f"{names[0]}: {text}"
        if not issubclass(kind, Exception):
            self.ended = self.ended or error
        return error

    def send(self, message: tuple) -> None:
        stream = io.BytesIO()
        _RequestPickler(self, stream).dump(message)
        data = stream.getvalue()
        data = memoryview(len(data).to_bytes(8, "little") + data)
        try:
            while data:
                data = data[os.write(self.channel, data) :]
        except OSError:
            self.fail()

    def fail(self) -> None:
        self.ended = self.ended or WorkerExited()
        raise self.ended

    def receive(self) -> tuple:
        data = self.read(int.from_bytes(self.read(8), "little"))
        try:
            reply = _ReplyUnpickler(self, io.BytesIO(data)).load()
            if self.values and any(opcode.name == "BUILD" for opcode, _, _ in pickletools.genops(data)):
                self.fail()
        except MemoryError:
            raise
        except Exception:
            self.fail()
        if type(reply) is not tuple or not reply or (reply[0], len(reply)) not in _REPLIES:
            self.fail()
        return reply

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = os.read(self.channel, min(size, 1 << 20))
            except OSError:
                part = b""
            if not part:
                self.fail()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _RequestPickler(pickle.Pickler):
    def __init__(self, client: ProgramClient, stream: io.BytesIO):
        super().__init__(stream, 5)
        self.client = client

    def persistent_id(self, value):
        kind = type(value)
        if kind is RemoteObject:
            return ("object", object.__getattribute__(value, "_number"))
        if kind in (types.FunctionType, types.MethodType):
            self.client.functions.append(value)
            return ("function", len(self.client.functions) - 1)
        return ("iterator", list(value)) if kind is types.GeneratorType else None


class _ReplyUnpickler(pickle.Unpickler):
    """Builds builtin values only: no name in a reply is ever looked up, so a reply can call nothing else."""

    def __init__(self, client: ProgramClient, stream: io.BytesIO):
        super().__init__(stream)
        self.client = client

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, reference):
        kind, *content = reference
        if kind == "object":
            return self.client.remotes.setdefault(content[0], RemoteObject(self.client, int(content[0])))
        if kind == "value":
            self.client.values = True
            return _VALUES[content[0]](*content[1])
        if kind == "plain":
            return content[0]
        return (_TYPES if kind == "type" else _CONSTANTS)[content[0]]


def replace(old, new) -> None:
    """Applies to the tests' arguments the changes that the program made to its copies."""
    if type(old) is not type(new):
        return
    if type(old) is list:
        if len(old) == len(new):
            for i, (was, value) in enumerate(zip(old, new, strict=True)):
                if type(was) is type(value) and type(was) in (list, dict, set):
                    replace(was, value)
                else:
                    old[i] = value
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
