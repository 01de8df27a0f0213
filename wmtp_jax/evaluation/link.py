"""The judge's end of the channel to a program: requests out, plain values or stand-ins for the program's objects back.

Runs in the judge's process (judge.py), without the rest of this package.
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
# A stream can call these (pickle's REDUCE): none makes a thing that compares in its own way, as `type` would.
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)}
_TYPES |= {"NoneType": type(None), "range": range}
_REPLIES = {("ready", 1), ("ok", 3), ("raise", 4), ("callback", 4)}
_CONSTANTS = {"NotImplemented": NotImplemented, "Ellipsis": Ellipsis}
_COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
_COMBINED = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor")


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
        self.remotes = {}
        # Whether anything but builtin values came: setting attributes in a stream (BUILD) could bend its arithmetic.
        self.values = False
        # Once the program has left, no `except:` in the tests brings it back.
        self.left = None

    def ask(self, *request):
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
                    # It would end a loop of the tests as if all were well: `all(map(check, cases))`.
                    error = RuntimeError(error.program_says)
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
            reply = _Unpickler(self, io.BytesIO(data)).load()
            if self.values and any(opcode.name == "BUILD" for opcode, _, _ in pickletools.genops(data)):
                self.lost()
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
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, reference):
        kind, *content = reference
        if kind == "object":
            return self.link.remotes.setdefault(content[0], Remote(self.link, int(content[0])))
        if kind == "value":
            self.link.values = True
            return _VALUES[content[0]](*content[1])
        if kind == "plain":
            return content[0]
        return (_TYPES if kind == "type" else _CONSTANTS)[content[0]]


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
