"""The values that go between a program and tests in another process: of exact standard types, and nothing else.

Imports nothing of this package: it is sent to the workers together with them. What it decodes may be written by a
program, so no name in it is ever looked up and nothing in it can be called.
"""

import _pickle
import importlib
import io
import sys
import types

_PLAIN = {type(None), bool, int, float, str, bytes, bytearray, list, tuple, dict}
_FACTORIES = {kind.__name__: kind for kind in (int, float, complex, bool, str, bytes, list, tuple, dict, set)}
_CONSTANTS = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}
_FUNCTIONS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)

# Types of the standard library: name -> the arguments that rebuild a value.
_PARTS = {
    "builtins.complex": lambda x: (x.real, x.imag),
    "builtins.range": lambda x: (x.start, x.stop, x.step),
    "builtins.slice": lambda x: (x.start, x.stop, x.step),
    "builtins.set": lambda x: (list(x),),
    "builtins.frozenset": lambda x: (list(x),),
    "builtins.dict_keys": lambda x: (list(x),),
    "builtins.dict_values": lambda x: (list(x),),
    "builtins.dict_items": lambda x: (list(x),),
    "collections.OrderedDict": lambda x: (list(x.items()),),
    "collections.Counter": lambda x: (dict(x),),
    "collections.defaultdict": lambda x: (_factory_name(x), dict(x)),
    "collections.deque": lambda x: (list(x), x.maxlen),
    "decimal.Decimal": lambda x: (str(x),),
    "fractions.Fraction": lambda x: (x.numerator, x.denominator),
    "datetime.date": lambda x: (x.year, x.month, x.day),
    "datetime.datetime": lambda x: (x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond),
    "datetime.time": lambda x: (x.hour, x.minute, x.second, x.microsecond),
    "datetime.timedelta": lambda x: (x.days, x.seconds, x.microseconds),
}
_BUILDERS = {
    "builtins.complex": complex,
    "builtins.range": range,
    "builtins.slice": slice,
    "builtins.set": lambda items: _in_order(set, items),
    "builtins.frozenset": lambda items: _in_order(frozenset, items),
    "builtins.dict_keys": lambda items: dict.fromkeys(items).keys(),
    "builtins.dict_values": lambda items: dict(enumerate(items)).values(),
    "builtins.dict_items": lambda items: dict(items).items(),
    "collections.defaultdict": lambda name, items: _standard("collections.defaultdict")(_FACTORIES.get(name), items),
}


class NotCarriedError(Exception):
    """A value that is not of an exact standard type, or does not stay what it is on its way."""


class Encoder(_pickle.Pickler):
    """Writes values.

    Args:
        stream: where to.
        functions: list that takes the functions met, which are sent as their place in it; None refuses them.

    Attributes:
        has_nan: whether a NaN was among the values: it is equal to itself by identity alone, which is lost.
        has_view: whether a dictionary's view was among them, which shows later changes.
    """

    def __init__(self, stream: io.BytesIO, functions: list | None = None):
        super().__init__(stream, 5)
        self.functions = functions
        self.has_nan = self.has_view = False

    def persistent_id(self, value):
        """None for what pickle itself writes, else what `Decoder` makes the value of."""
        kind = type(value)
        if kind in _PLAIN:
            if kind is float and value != value:
                self.has_nan = True
            return None
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _PARTS and _standard(name) in (kind, None):
            if getattr(value, "tzinfo", None) is not None or getattr(value, "__dict__", None):
                raise NotCarriedError(f"a {kind.__name__} with more than its value")
            self.has_view = self.has_view or name.startswith("builtins.dict_")
            return ("value", name, _PARTS[name](value))
        if self.functions is not None and kind in _FUNCTIONS:
            self.functions.append(value)
            return ("function", len(self.functions) - 1)
        if self.functions is not None and kind is type and _FACTORIES.get(value.__name__) is value:
            return ("type", value.__name__)
        for name, constant in _CONSTANTS.items():
            if value is constant:
                return ("constant", name)
        raise NotCarriedError(f"a value of type {kind.__qualname__}")


class Decoder(_pickle.Unpickler):
    """Reads values.

    Args:
        stream: where from.
        function: makes a function of its number; None on the side of the tests, which take neither functions nor types.

    Attributes:
        has_objects: whether values other than pickle's own came, which have attributes that a message could set.
    """

    def __init__(self, stream: io.BytesIO, function=None):
        super().__init__(stream)
        self.function = function
        self.has_objects = False

    def find_class(self, module, name):
        """Never."""
        raise _pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, reference):
        """The value of what `Encoder` wrote."""
        kind, name, *parts = reference
        if kind == "value":
            self.has_objects = True
            return (_BUILDERS.get(name) or _standard(name if name in _PARTS else ""))(*parts[0])
        if kind == "constant":
            return _CONSTANTS[name]
        if self.function is None:
            raise _pickle.UnpicklingError(kind)
        return self.function(name) if kind == "function" else _FACTORIES[name]


def encode(message: tuple, functions: list | None = None) -> tuple[bytes, bool, bool]:
    """A message as bytes, and whether there is a NaN or a dictionary's view in it.

    Raises:
        NotCarriedError: a value in it is not of an exact standard type.
    """
    stream = io.BytesIO()
    encoder = Encoder(stream, functions)
    try:
        encoder.dump(message)
    except RecursionError as error:
        raise NotCarriedError("a value that is nested too deep") from error
    return stream.getvalue(), encoder.has_nan, encoder.has_view


def _standard(name: str):
    """The type of that name; None for the types of dictionary views, which have no name anywhere."""
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module) or importlib.import_module(module), attribute, None)


def _factory_name(value) -> str | None:
    factory = value.default_factory
    if factory is not None and _FACTORIES.get(getattr(factory, "__name__", "")) is not factory:
        raise NotCarriedError("a defaultdict with a factory of its own")
    return factory and factory.__name__


def _in_order(kind: type, items: list):
    """The set with these elements that iterates in this order: it depends on how the set has grown."""
    for filler in (0, 8, 32, 128, 512, 2048):
        for order in (items, items[::-1]):
            # Elements that are removed again leave a larger table behind.
            grown = {("filler", i) for i in range(filler)}
            grown.clear() if not filler else grown.difference_update(list(grown))
            grown.update(order)
            for found in (grown if kind is set else kind(grown), kind(grown), kind(order)):
                if len(found) == len(items) and all(map(_is, found, items)):
                    return found
    raise NotCarriedError("a set whose order depends on how it has grown")


def _is(a, b) -> bool:
    return a is b
