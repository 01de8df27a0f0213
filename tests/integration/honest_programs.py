"""Honest programs with their tests, right and wrong ones, in what Python offers: the specification of a fair verdict.

A case is `## name`, the program, `#: tests` and the tests; each line `#! old => new` makes one wrong program of it.
What is right and what is wrong is not written down here: plain execution decides.
"""

SUBCLASSES = r"""
## subclass of int
class Mod7(int):
    def __new__(cls, value):
        return super().__new__(cls, value % 7)
    def __add__(self, other):
        return Mod7(int(self) + int(other))
#: tests
assert Mod7(9) == 2 and Mod7(5) + 4 == 2
assert type(Mod7(3) + Mod7(3)) is Mod7 and sum([Mod7(6), Mod7(6)], Mod7(0)) == 5

## subclass of float
class Celsius(float):
    def __repr__(self):
        return f"{float(self):.1f}C"
def average(readings):
    return Celsius(sum(readings) / len(readings))
#: tests
assert repr(average([20, 21])) == "20.5C" and average([1, 2]) == 1.5
assert isinstance(average([1.0]), float) and f"{average([3]):.2f}" == "3.00"

## subclass of str
class Path(str):
    def __truediv__(self, other):
        return Path(self.rstrip("/") + "/" + other)
def join(*parts):
    path = Path(parts[0])
    for part in parts[1:]:
        path = path / part
    return path
#: tests
assert join("a", "b", "c") == "a/b/c" and join("a/").upper() == "A/"
assert (join("x") / "y").split("/") == ["x", "y"] and {join("a", "b"): 1}["a/b"] == 1

## subclass of list
class Stack(list):
    push = list.append
    @property
    def top(self):
        return self[-1]
def build(items):
    stack = Stack()
    for item in items:
        stack.push(item)
    return stack
#: tests
s = build([1, 2, 3])
assert s == [1, 2, 3] and s.top == 3 and s.pop() == 3 and s.top == 2
s.push(9)
assert s[1:] == [2, 9] and len(s) == 3 and isinstance(s, Stack)

## subclass of dict with missing
class Squares(dict):
    def __missing__(self, key):
        self[key] = key * key
        return self[key]
#: tests
d = Squares({1: 10})
assert d[1] == 10 and d[4] == 16 and d == {1: 10, 4: 16} and d.get(5) is None
assert sorted(d.items()) == [(1, 10), (4, 16)]

## subclass of tuple
class Point(tuple):
    __slots__ = ()
    def __new__(cls, x, y):
        return tuple.__new__(cls, (x, y))
    x = property(lambda self: self[0])
    y = property(lambda self: self[1])
    def __add__(self, other):
        return Point(self.x + other[0], self.y + other[1])
#: tests
p = Point(1, 2) + (3, 4)
assert p == (4, 6) and (p.x, p.y) == (4, 6) and [*p] == [4, 6]
assert {p: "here"}[(4, 6)] == "here"

## subclass of set
class Tags(set):
    def __or__(self, other):
        return Tags(tag.lower() for tag in set.__or__(self, other))
def tag(*names):
    return Tags(names)
#: tests
assert tag("A") | tag("B", "a") == {"a", "b"}
assert tag("x", "y") - {"x"} == {"y"} and "z" not in tag("x") and len(tag("x", "x")) == 1

## subclass of an exception, with arguments
class Overdrawn(ValueError):
    def __init__(self, balance, amount):
        super().__init__(f"{amount - balance} missing")
        self.balance, self.amount = balance, amount
def withdraw(balance, amount):
    if amount > balance:
        raise Overdrawn(balance, amount)
    return balance - amount
#: tests
assert withdraw(10, 4) == 6
try:
    withdraw(1, 5)
except Overdrawn as error:
    assert str(error) == "4 missing" and error.amount == 5 and isinstance(error, ValueError)
else:
    raise AssertionError("no exception")
#! amount > balance => amount > balance + 9
#! (ValueError): => (KeyError):

## hierarchy of exceptions
class Failure(Exception): pass
class Soft(Failure): pass
class Hard(Failure): pass
def run(kind):
    try:
        raise {"soft": Soft, "hard": Hard}[kind](kind)
    except Soft:
        return "recovered"
    except KeyError as error:
        raise Failure("unknown") from error
#: tests
assert run("soft") == "recovered"
for kind, expected in (("hard", Hard), ("odd", Failure)):
    try:
        run(kind)
    except Failure as error:
        assert type(error) is expected
        assert kind == "hard" or isinstance(error.__cause__, KeyError)
    else:
        assert False
#! from error => from None

## namedtuple
from collections import namedtuple
Card = namedtuple("Card", "rank suit", defaults=["spades"])
def deal(ranks):
    return [Card(rank) for rank in ranks]
#: tests
hand = deal([3, 1, 2])
assert hand[0] == (3, "spades") == Card(3, "spades") and sorted(hand)[0].rank == 1
assert hand[1]._replace(suit="hearts") == Card(1, "hearts") and hand[0]._fields == ("rank", "suit")
rank, suit = hand[2]
assert (rank, suit) == (2, "spades") and hand[2]._asdict() == {"rank": 2, "suit": "spades"}

## typed named tuple with methods
from typing import NamedTuple
class Money(NamedTuple):
    amount: int
    currency: str = "EUR"
    def times(self, n):
        return self._replace(amount=self.amount * n)
#: tests
assert Money(3).times(4) == (12, "EUR") and repr(Money(1)) == "Money(amount=1, currency='EUR')"
assert Money(2) < Money(3) and max(Money(5), Money(7)).amount == 7

## integer enum
from enum import IntEnum
class Level(IntEnum):
    LOW = 1
    HIGH = 5
def raise_level(level):
    return Level.HIGH if level < Level.HIGH else level
#: tests
assert raise_level(Level.LOW) is Level.HIGH and raise_level(Level.LOW) == 5
assert [level.name for level in Level] == ["LOW", "HIGH"] and Level(1) + 1 == 2 and Level["LOW"].value == 1

## enum with methods
from enum import Enum, auto
class Side(Enum):
    LEFT = auto()
    RIGHT = auto()
    @property
    def opposite(self):
        return Side.RIGHT if self is Side.LEFT else Side.LEFT
#: tests
assert Side.LEFT.opposite is Side.RIGHT and Side.LEFT.opposite.opposite == Side.LEFT
assert Side.LEFT != 1 and {Side.LEFT: "l"}[Side(1)] == "l" and len(Side) == 2

## flags
from enum import Flag
class Access(Flag):
    READ = 1
    WRITE = 2
    BOTH = READ | WRITE
def allowed(user, wanted):
    return wanted in user
#: tests
assert allowed(Access.BOTH, Access.READ) and not allowed(Access.READ, Access.WRITE)
assert Access.READ | Access.WRITE == Access.BOTH and not Access.READ & Access.WRITE

## subclass of defaultdict
from collections import defaultdict
class Tree(defaultdict):
    def __init__(self):
        super().__init__(Tree)
def insert(tree, word):
    for letter in word:
        tree = tree[letter]
    return tree
#: tests
t = Tree()
insert(t, "ab"); insert(t, "ac")
assert t == {"a": {"b": {}, "c": {}}} and "z" not in t and isinstance(t["a"], Tree)
#! tree = tree[letter] => tree[letter]

## user dict
from collections import UserDict
class Caseless(UserDict):
    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)
    def __getitem__(self, key):
        return super().__getitem__(key.lower())
#: tests
d = Caseless(A=1)
d["b"] = 2
assert d["a"] == 1 and d["B"] == 2 and dict(d) == {"a": 1, "b": 2} and len(d) == 2

## own sequence by abstract base class
from collections.abc import Sequence
class Evens(Sequence):
    def __init__(self, n):
        self.n = n
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        if not 0 <= i < self.n:
            raise IndexError(i)
        return 2 * i
#: tests
e = Evens(4)
assert list(e) == [0, 2, 4, 6] and 4 in e and e.index(6) == 3 and list(reversed(e)) == [6, 4, 2, 0]
assert e.count(2) == 1 and isinstance(e, Sequence)

## a list that compares by length
class ByLength(list):
    def __eq__(self, other):
        return len(self) == len(other)
    __hash__ = None
#: tests
assert ByLength([1, 2]) == [3, 4] and not ByLength([1]) == [1, 2] and [5, 6] == ByLength([7, 8])
#! len(self) == len(other) => list.__eq__(self, other)

## subclass of bytes and of complex
class Blob(bytes):
    def hexed(self):
        return self.hex(":")
class Polar(complex):
    @classmethod
    def of(cls, r, quarter):
        return cls(r * 1j ** quarter)
#: tests
assert Blob(b"\x01\xff").hexed() == "01:ff" and Blob(b"ab")[0] == 97 and Blob(b"a") + b"b" == b"ab"
assert Polar.of(2, 0) == 2 and Polar.of(2, 2).real == -2 and isinstance(Polar.of(1, 0), complex)

## ordered dictionary subclass that forgets
from collections import OrderedDict
class Cache(OrderedDict):
    def __init__(self, size):
        super().__init__()
        self.size = size
    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self.size:
            self.popitem(last=False)
#: tests
c = Cache(2)
c["a"], c["b"], c["a"], c["c"] = 1, 2, 3, 4
assert list(c.items()) == [("a", 3), ("c", 4)] and "b" not in c

## exception group
def collect(jobs):
    errors = []
    for job in jobs:
        try:
            job()
        except Exception as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup("failed", errors)
#: tests
def bad(error):
    def job():
        raise error
    return job
collect([int, str])
seen = []
try:
    collect([bad(ValueError(1)), int, bad(KeyError(2))])
except* ValueError as group:
    seen.append(len(group.exceptions))
except* KeyError as group:
    seen.append("key")
assert seen == [1, "key"]
#! errors.append(error) => errors = [error]
"""

OPERATORS = r"""
## vector with operators
class Vector:
    def __init__(self, *xs): self.xs = xs
    def __add__(self, other): return Vector(*(a + b for a, b in zip(self.xs, other.xs)))
    def __mul__(self, k): return Vector(*(k * a for a in self.xs))
    __rmul__ = __mul__
    def __matmul__(self, other): return sum(a * b for a, b in zip(self.xs, other.xs))
    def __neg__(self): return self * -1
    def __abs__(self): return (self @ self) ** 0.5
    def __eq__(self, other): return isinstance(other, Vector) and self.xs == other.xs
    def __hash__(self): return hash(self.xs)
    def __repr__(self): return f"Vector{self.xs}"
#: tests
v = Vector(3, 4)
assert v + Vector(1, 1) == Vector(4, 5) and 2 * v == v * 2 == Vector(6, 8) and -v == Vector(-3, -4)
assert abs(v) == 5 and v @ v == 25 and str(v) == "Vector(3, 4)" and len({v, Vector(3, 4)}) == 1 and v != (3, 4)
#! return hash(self.xs) => return id(self)

## total ordering
from functools import total_ordering
@total_ordering
class Version:
    def __init__(self, text): self.parts = [int(part) for part in text.split(".")]
    def __eq__(self, other): return self.parts == other.parts
    def __lt__(self, other): return self.parts < other.parts
#: tests
assert Version("1.10") > Version("1.9") and Version("2.0") >= Version("2.0") and not Version("1") < Version("1")
assert sorted(map(Version, ["1.2", "1.1"]))[0] == Version("1.1")

## operators in place
class Account:
    def __init__(self): self.log = []
    def __iadd__(self, amount):
        self.log.append(amount)
        return self
    def __lshift__(self, other): return self.__iadd__(other)
    def __bool__(self): return bool(self.log)
#: tests
a = b = Account()
assert not a
a += 5
a << 6 << 7
assert a is b and b.log == [5, 6, 7] and a

## container protocol
class Board:
    def __init__(self): self.cells = {}
    def __getitem__(self, at): return self.cells.get(at, ".")
    def __setitem__(self, at, value): self.cells[at] = value
    def __delitem__(self, at): del self.cells[at]
    def __contains__(self, at): return at in self.cells
    def __len__(self): return len(self.cells)
    def __iter__(self): return iter(sorted(self.cells))
#: tests
b = Board()
b[1, 2] = "x"; b[0, 0] = "o"
assert b[1, 2] == "x" and b[5, 5] == "." and (0, 0) in b and list(b) == [(0, 0), (1, 2)]
del b[0, 0]
assert len(b) == 1 and (0, 0) not in b
#! del self.cells[at] => pass

## slices in __getitem__
class Text:
    def __init__(self, s): self.s = s
    def __getitem__(self, key):
        return (key.start, key.stop, key.step) if isinstance(key, slice) else self.s[key]
#: tests
t = Text("abc")
assert t[1] == "b" and t[1:2] == (1, 2, None) and t[::-1] == (None, None, -1) and t[-1] == "c"

## callable object
class Polynomial:
    def __init__(self, *coefficients): self.coefficients = coefficients
    def __call__(self, x):
        total = 0
        for c in self.coefficients:
            total = total * x + c
        return total
#: tests
p = Polynomial(1, 0, -2)
assert p(3) == 7 and list(map(p, range(3))) == [-2, -1, 2] and callable(p)

## format protocol
class Ratio:
    def __init__(self, a, b): self.a, self.b = a, b
    def __format__(self, spec): return format(self.a / self.b, spec or ".1%")
    def __str__(self): return f"{self.a}:{self.b}"
#: tests
r = Ratio(1, 4)
assert f"{r}" == "25.0%" and f"{r:.3f}" == "0.250" and f"{r!s:>5}" == "  1:4" and "{:e}".format(r) == "2.500000e-01"

## numbers protocol
import math
class Half:
    def __init__(self, n): self.n = n
    def __int__(self): return self.n // 2
    __index__ = __trunc__ = __int__
    def __float__(self): return self.n / 2
    def __round__(self, digits=None): return round(self.n / 2, digits)
    def __divmod__(self, other): return divmod(self.n / 2, other)
    def __floor__(self): return math.floor(self.n / 2)
#: tests
h = Half(7)
assert int(h) == 3 and float(h) == 3.5 and [0, 1, 2, 3][h] == 3 and round(h) == 4 and divmod(h, 2) == (1.0, 1.5)
assert math.floor(h) == 3 and hex(h) == "0x3" and range(5)[h] == 3
#! __round__(self, digits=None): return round(self.n / 2, digits) => __round__(self, digits=None): return 3

## reflected operators that decline
class Metre:
    def __init__(self, x): self.x = x
    def __add__(self, other): return Metre(self.x + other.x) if isinstance(other, Metre) else NotImplemented
    def __radd__(self, other): return self if other == 0 else NotImplemented
#: tests
assert sum([Metre(1), Metre(2)]).x == 3
try:
    Metre(1) + 1
except TypeError as error:
    assert "unsupported operand" in str(error)
else:
    assert False
#! if other == 0 else => if other == 1 else

## hash and identity
class Node:
    def __init__(self, name): self.name = name
nodes = [Node(i) for i in range(4)]
def find(name): return nodes[name]
#: tests
assert find(1) is find(1) and find(1) is not find(2) and find(0) != Node(0)
assert len({find(0), find(0), find(3)}) == 2 and find(3) in nodes and nodes.index(find(2)) == 2
#! return nodes[name] => return Node(name)

## attribute hooks
class Record:
    def __init__(self, **fields): object.__setattr__(self, "fields", fields)
    def __getattr__(self, name):
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None
    def __setattr__(self, name, value): self.fields[name] = value * 2
    def __delattr__(self, name): del self.fields[name]
    def __dir__(self): return list(self.fields)
#: tests
r = Record(a=1)
r.b = 4
assert r.a == 1 and r.b == 8 and not hasattr(r, "c") and getattr(r, "c", 0) == 0 and dir(r) == ["a", "b"]
del r.a
assert not hasattr(r, "a")

## getattribute that counts
class Watched:
    reads = 0
    value = 3
    def __getattribute__(self, name):
        if name == "value":
            Watched.reads += 1
        return object.__getattribute__(self, name)
#: tests
w = Watched()
assert [w.value, w.value] == [3, 3] and Watched.reads == 2

## descriptor that checks
class Positive:
    def __set_name__(self, owner, name): self.name = "_" + name
    def __get__(self, instance, owner): return self if instance is None else getattr(instance, self.name)
    def __set__(self, instance, value):
        if value <= 0:
            raise ValueError(self.name[1:])
        setattr(instance, self.name, value)
class Box:
    width = Positive()
    height = Positive()
    def __init__(self, width, height): self.width, self.height = width, height
#: tests
b = Box(2, 3)
b.width = 5
assert b.width * b.height == 15 and isinstance(Box.width, Positive)
try:
    b.height = -1
except ValueError as error:
    assert error.args == ("height",) and b.height == 3
else:
    assert False

## properties
class Circle:
    def __init__(self, radius): self._radius = radius
    @property
    def area(self): return 3 * self._radius ** 2
    @property
    def radius(self): return self._radius
    @radius.setter
    def radius(self, value): self._radius = max(value, 0)
    @radius.deleter
    def radius(self): self._radius = 1
#: tests
c = Circle(2)
c.radius = -7
assert c.area == 0
del c.radius
assert c.radius == 1 and c.area == 3
try:
    c.area = 5
except AttributeError:
    pass
else:
    assert False

## metaclass that registers
class Registry(type):
    found = []
    def __new__(meta, name, bases, space, **options):
        made = super().__new__(meta, name, bases, space)
        meta.found.append((name, options.get("tag")))
        return made
    def __init__(cls, name, bases, space, **options): super().__init__(name, bases, space)
    def __len__(cls): return len(vars(cls))
class Base(metaclass=Registry): pass
class Leaf(Base, tag=7): x = 1
#: tests
assert Registry.found == [("Base", None), ("Leaf", 7)] and type(Leaf) is Registry and len(Leaf) > 0
class More(Leaf, tag="t"): pass
assert Registry.found[-1] == ("More", "t")

## subclasses register themselves
class Shape:
    kinds = {}
    def __init_subclass__(cls, corners=0, **rest):
        super().__init_subclass__(**rest)
        Shape.kinds[cls.__name__.lower()] = cls
        cls.corners = corners
class Square(Shape, corners=4): pass
def make(name): return Shape.kinds[name]()
#: tests
class Triangle(Shape, corners=3): pass
assert make("square").corners == 4 and isinstance(make("triangle"), Triangle)
#! .lower()] = cls => ] = cls

## order of base classes
class A:
    def who(self): return ["A"]
class B(A):
    def who(self): return ["B"] + super().who()
class C(A):
    def who(self): return ["C"] + super().who()
class D(B, C):
    def who(self): return ["D"] + super().who()
#: tests
assert D().who() == ["D", "B", "C", "A"] and [k.__name__ for k in D.__mro__[:2]] == ["D", "B"]

## abstract base class
from abc import ABC, abstractmethod
class Animal(ABC):
    @abstractmethod
    def sound(self): ...
    def speak(self): return self.sound() + "!"
class Dog(Animal):
    def sound(self): return "woof"
#: tests
assert Dog().speak() == "woof!"
try:
    Animal()
except TypeError:
    pass
else:
    assert False
#! class Animal(ABC) => class Animal

## context manager class
class Transaction:
    def __init__(self, log): self.log = log
    def __enter__(self):
        self.log.append("begin")
        return self
    def __exit__(self, kind, error, trace):
        self.log.append("rollback" if kind else "commit")
        return kind is KeyError
#: tests
log = []
with Transaction(log):
    pass
with Transaction(log):
    {}["x"]
try:
    with Transaction(log):
        1 / 0
except ZeroDivisionError:
    log.append("seen")
assert log == ["begin", "commit", "begin", "rollback", "begin", "rollback", "seen"]
#! return kind is KeyError => return True

## context manager by generator
from contextlib import contextmanager
depth = []
@contextmanager
def indented(by):
    depth.append(by)
    try:
        yield sum(depth)
    finally:
        depth.pop()
#: tests
with indented(2) as a, indented(3) as b:
    assert (a, b) == (2, 5)
try:
    with indented(1):
        raise OSError
except OSError:
    pass
assert depth == []
#! finally: => except KeyError:

## stack of context managers
from contextlib import ExitStack, suppress
def closing(n):
    order = []
    with suppress(ZeroDivisionError), ExitStack() as stack:
        for i in range(n):
            stack.callback(order.append, i)
        order[0] / 0 if order else 1 / 0
    return order
#: tests
assert closing(3) == [2, 1, 0]
#! stack.callback(order.append, i) => order.append(i)

## singleton
class Single:
    _one = None
    def __new__(cls):
        if cls._one is None:
            cls._one = super().__new__(cls)
        return cls._one
#: tests
assert Single() is Single()
Single().x = 4
assert Single().x == 4
#! if cls._one is None: => if True:

## slots
class Pair:
    __slots__ = ("a", "b")
    def __init__(self, a, b): self.a, self.b = a, b
#: tests
p = Pair(1, 2)
try:
    p.c = 3
except AttributeError:
    p.b = 5
assert (p.a, p.b) == (1, 5) and not hasattr(p, "__dict__")
#! __slots__ = ("a", "b") => names = ("a", "b")

## generic class and class_getitem
class Typed:
    def __class_getitem__(cls, item): return (cls.__name__, item)
def kind(x): return Typed[type(x)]
#: tests
assert kind(1) == ("Typed", int) and Typed[3] == ("Typed", 3) and kind([]) == ("Typed", list)

## copy protocol
import copy
class Grid:
    def __init__(self, rows): self.rows, self.copies = rows, 0
    def __deepcopy__(self, memo):
        other = Grid(copy.deepcopy(self.rows, memo))
        other.copies = self.copies + 1
        return other
#: tests
g = Grid([[1], [2]])
h = copy.deepcopy(copy.deepcopy(g))
h.rows[0].append(9)
assert g.rows == [[1], [2]] and h.rows == [[1, 9], [2]] and h.copies == 2 and copy.copy(g).rows is g.rows
#! copy.deepcopy(self.rows, memo) => self.rows

## class and static methods
class Counter:
    made = 0
    def __init__(self): type(self).made += 1
    @classmethod
    def several(cls, n): return [cls() for _ in range(n)]
    @staticmethod
    def twice(x): return 2 * x
class Other(Counter): pass
#: tests
assert len(Counter.several(3)) == 3 and Counter.made == 3 and Counter.twice(4) == Counter().twice(4) == 8
assert isinstance(Other.several(1)[0], Other) and Other.made == 5 and Counter.made == 4
#! [cls() for => [Counter() for

## equality that raises
class Picky:
    def __eq__(self, other): raise TypeError("never")
#: tests
p = Picky()
assert p in [p] and [p] == [p]
try:
    p == 1
except TypeError as error:
    assert str(error) == "never"
else:
    assert False
#! raise TypeError("never") => return False

## comparison that returns other things
class Column:
    def __init__(self, values): self.values = values
    def __gt__(self, x): return [value > x for value in self.values]
    def __eq__(self, x): return [value == x for value in self.values]
#: tests
assert (Column([1, 5]) > 2) == [False, True] and (Column([1, 5]) == 1) == [True, False]

## linked list
class Node:
    def __init__(self, value, next=None): self.value, self.next = value, next
def reverse(head):
    done = None
    while head:
        head.next, done, head = done, head, head.next
    return done
#: tests
head = Node(1, Node(2, Node(3)))
last = head.next.next
back = reverse(head)
found = []
while back:
    found.append(back.value)
    first, back = back, back.next
assert found == [3, 2, 1] and first is head and last.next.value == 2

## binary tree with generators
class Tree:
    def __init__(self, value): self.value, self.left, self.right = value, None, None
    def insert(self, value):
        side = "left" if value < self.value else "right"
        if getattr(self, side) is None:
            setattr(self, side, Tree(value))
        else:
            getattr(self, side).insert(value)
        return self
    def __iter__(self):
        if self.left: yield from self.left
        yield self.value
        if self.right: yield from self.right
#: tests
t = Tree(5)
for x in (3, 8, 1, 4): t.insert(x)
assert list(t) == [1, 3, 4, 5, 8] and t.left.right.value == 4 and max(t) == 8

## data class
from dataclasses import dataclass, field, asdict, replace
@dataclass(order=True)
class Task:
    priority: int
    name: str = field(compare=False)
    tags: list = field(default_factory=list, compare=False)
    def __post_init__(self): self.name = self.name.title()
#: tests
a, b = Task(2, "wash"), Task(1, "cook", ["now"])
assert min(a, b).name == "Cook" and a.tags is not Task(2, "x").tags and Task(2, "other") == a
assert asdict(b) == {"priority": 1, "name": "Cook", "tags": ["now"]} and replace(a, priority=9).priority == 9
assert repr(a) == "Task(priority=2, name='Wash', tags=[])"
#! order=True => eq=False

## frozen data class
from dataclasses import dataclass, FrozenInstanceError
@dataclass(frozen=True)
class Key:
    a: int
    b: int = 2
#: tests
assert {Key(1): "x"}[Key(1, 2)] == "x" and hash(Key(1)) == hash(Key(1))
try:
    Key(1).a = 5
except FrozenInstanceError:
    pass
else:
    assert False
#! frozen=True => eq=True
"""

FUNCTIONS = r'''
## closures that share
def account():
    balance = 0
    def deposit(x):
        nonlocal balance
        balance += x
        return balance
    def read(): return balance
    return deposit, read
#: tests
deposit, read = account()
deposit(5); deposit(6)
other, _ = account()
assert read() == 11 and other(1) == 1 and read() == 11
#! nonlocal balance => balance = 0

## late binding
def late(): return [lambda: i for i in range(3)]
def early(): return [lambda i=i: i for i in range(3)]
#: tests
assert [f() for f in late()] == [2, 2, 2] and [f() for f in early()] == [0, 1, 2]
#! lambda i=i: i => lambda: i

## mutable default
def push(x, to=[]):
    to.append(x)
    return to
#: tests
assert push(1) == [1] and push(2) == [1, 2] and push(3, []) == [3] and push(4) is push.__defaults__[0]
#! to.append(x) => to = to + [x]

## keyword-only and positional-only
def area(width, /, height=2, *, scale=1): return width * height * scale
#: tests
assert area(3) == 6 and area(3, height=4, scale=2) == 24
for call in (lambda: area(width=1), lambda: area(1, 2, 3)):
    try:
        call()
    except TypeError:
        continue
    assert False
#! *, scale => scale

## varargs
def describe(first, *rest, sep="-", **options):
    return sep.join([str(first), *map(str, rest), *(f"{k}={v}" for k, v in options.items())])
#: tests
assert describe(1) == "1" and describe(1, 2, 3, sep="") == "123"
assert describe(*"ab", **{"z": 1, "y": 2}) == "a-b-z=1-y=2"
#! options.items() => sorted(options.items())

## decorator with arguments
import functools
def repeat(n):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return [function(*args, **kwargs) for _ in range(n)]
        wrapper.times = n
        return wrapper
    return decorate
@repeat(3)
def hello(name="x"):
    "Greets."
    return f"hi {name}"
#: tests
assert hello("a") == ["hi a"] * 3 and hello.__name__ == "hello" and hello.__doc__ == "Greets." and hello.times == 3
assert hello.__wrapped__() == "hi x"

## decorators used by the tests
def logged(calls):
    def decorate(f):
        def inner(*args):
            calls.append((f.__name__, args))
            return f(*args)
        return inner
    return decorate
#: tests
calls = []
@logged(calls)
def add(a, b): return a + b
assert add(1, 2) == 3 and add("a", "b") == "ab" and calls == [("add", (1, 2)), ("add", ("a", "b"))]
#! calls.append( => calls.extend(

## class as a decorator
class Memo:
    def __init__(self, f): self.f, self.seen = f, {}
    def __call__(self, x):
        if x not in self.seen:
            self.seen[x] = self.f(x)
        return self.seen[x]
@Memo
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
#: tests
assert fib(80) == 23416728348467685 and len(fib.seen) == 81

## recursion to 900
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
#: tests
assert depth(900) == 900

## recursion too deep
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
#: tests
try:
    depth(10 ** 5)
except RecursionError:
    pass
else:
    assert False
assert depth(100) == 100
#! 0 if n == 0 else 1 + depth(n - 1) => n

## raised recursion limit
import sys
sys.setrecursionlimit(20000)
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
#: tests
assert depth(5000) == 5000

## recursion with a global memo
memo = {0: 0, 1: 1}
def fib(n):
    if n not in memo:
        memo[n] = fib(n - 1) + fib(n - 2)
    return memo[n]
#: tests
assert fib(60) == 1548008755920 and memo[10] == 55 and len(memo) == 61
memo.clear()
memo.update({0: 1, 1: 1})
assert fib(5) == 8

## mutual recursion
def is_even(n): return n == 0 or is_odd(n - 1)
def is_odd(n): return n != 0 and is_even(n - 1)
#: tests
assert is_even(100) and not is_odd(100) and is_odd(7)

## state across calls
counter = 0
def ticket():
    global counter
    counter += 1
    return f"T{counter:03d}"
#: tests
assert ticket() == "T001" and ticket() == "T002"
counter = 41
assert ticket() == "T042" and counter == 42

## generator
def countdown(n):
    while n:
        yield n
        n -= 1
#: tests
g = countdown(3)
assert next(g) == 3 and list(g) == [2, 1] and list(g) == [] and next(g, "end") == "end"
assert sum(countdown(4)) == 10 and iter(g) is g

## generator that receives
def averager():
    total, n, average = 0, 0, None
    while True:
        value = yield average
        total, n = total + value, n + 1
        average = total / n
#: tests
g = averager()
assert next(g) is None and g.send(10) == 10 and g.send(20) == 15
g.close()
try:
    g.send(1)
except StopIteration:
    pass
else:
    assert False

## generator with throw, close and a result
log = []
def worker():
    try:
        while True:
            try:
                yield "ready"
            except ValueError as error:
                log.append(str(error))
                yield "recovered"
    finally:
        log.append("closed")
def outer():
    result = yield from inner()
    yield result
def inner():
    yield 1
    return 2
#: tests
w = worker()
next(w)
assert w.throw(ValueError("oops")) == "recovered" and next(w) == "ready"
w.close()
assert log == ["oops", "closed"] and list(outer()) == [1, 2]
#! except ValueError as => except KeyError as
#! return 2 => yield 2

## endless generator
def primes():
    found = []
    n = 2
    while True:
        if all(n % p for p in found):
            found.append(n)
            yield n
        n += 1
#: tests
from itertools import islice, takewhile
assert list(islice(primes(), 6)) == [2, 3, 5, 7, 11, 13] and sum(takewhile(lambda p: p < 20, primes())) == 77

## iterator class
class Fib:
    def __init__(self, limit): self.a, self.b, self.limit = 0, 1, limit
    def __iter__(self): return self
    def __next__(self):
        if self.a > self.limit:
            raise StopIteration
        self.a, self.b, found = self.b, self.a + self.b, self.a
        return found
#: tests
assert list(Fib(20)) == [0, 1, 1, 2, 3, 5, 8, 13] and 8 in Fib(10) and max(Fib(100)) == 89
first, second, *_ = Fib(5)
assert (first, second) == (0, 1)

## lazy map and zip as results
def pairs(xs): return zip(xs, map(lambda x: x * x, xs))
def big(xs): return filter(lambda x: x > 1, xs)
#: tests
p = pairs([1, 2, 3])
assert next(p) == (1, 1) and list(p) == [(2, 4), (3, 9)] and list(big([0, 1, 2, 3])) == [2, 3] and list(p) == []

## coroutine
import asyncio
async def double(x):
    await asyncio.sleep(0)
    return 2 * x
async def total(xs): return sum(await asyncio.gather(*map(double, xs)))
#: tests
assert asyncio.run(total([1, 2, 3])) == 12 and asyncio.run(double(4)) == 8
async def check():
    assert await double(5) == 10
asyncio.run(check())

## asynchronous generator and context
import asyncio
class Lock:
    held = False
    async def __aenter__(self): self.held = True; return self
    async def __aexit__(self, *_): self.held = False
async def ticks(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0)
#: tests
async def main():
    lock = Lock()
    async with lock as same:
        assert same.held and same is lock
        found = [i async for i in ticks(3)]
    return found, lock.held
assert asyncio.run(main()) == ([0, 1, 2], False)

## asynchronous queue
import asyncio
async def pipeline(items):
    queue, out = asyncio.Queue(2), []
    async def produce():
        for item in items: await queue.put(item)
        await queue.put(None)
    async def consume():
        while (item := await queue.get()) is not None: out.append(item * 10)
    await asyncio.gather(produce(), consume())
    return out
#: tests
assert asyncio.run(pipeline([1, 2, 3])) == [10, 20, 30]

## callback given by the tests
def apply(f, xs): return [f(x) for x in xs]
def fold(f, xs, start):
    for x in xs: start = f(start, x)
    return start
#: tests
assert apply(lambda x: x + 1, [1, 2]) == [2, 3] and fold(lambda a, b: a * b, [2, 3, 4], 1) == 24
assert apply(str, [1]) == ["1"] and apply(len, ["ab", ""]) == [2, 0] and fold(max, [3, 9, 4], 0) == 9

## callback with state
def visit(tree, on_leaf):
    for key, value in tree.items():
        if isinstance(value, dict):
            visit(value, on_leaf)
        else:
            on_leaf(key, value)
#: tests
seen, count = [], 0
def on_leaf(key, value):
    global count
    count += 1
    seen.append(key * value)
assert visit({"a": 2, "b": {"c": 3, "d": {"e": 1}}}, on_leaf) is None
assert seen == ["aa", "ccc", "e"] and count == 3

## callback that raises
def first_good(f, xs):
    for x in xs:
        try:
            return f(x)
        except (ValueError, ZeroDivisionError) as error:
            last = error
    raise last
#: tests
assert first_good(int, ["x", "7"]) == 7 and first_good(lambda x: 1 // x, [0, 1]) == 1
try:
    first_good(int, ["a", "b"])
except ValueError as error:
    assert "'b'" in str(error)
else:
    assert False
#! last = error => last = KeyError(x)

## callback with its own exception
def guarded(f):
    try:
        return f()
    except Exception as error:
        return type(error).__name__
#: tests
class Mine(Exception): pass
def fail(): raise Mine("x")
assert guarded(fail) == "Mine" and guarded(lambda: 5) == 5
#! except Exception => except ValueError

## bound methods of the tests as callbacks
def feed(sink, items):
    for item in items:
        sink(item)
#: tests
out, seen = [], set()
feed(out.append, [1, 2]); feed(seen.add, "aab")
assert out == [1, 2] and seen == {"a", "b"}
#! sink(item) => item

## functions as results
def compose(*fs):
    def composed(x):
        for f in reversed(fs): x = f(x)
        return x
    return composed
def adder(n): return lambda x: x + n
#: tests
assert compose(adder(1), adder(10))(0) == 11 and compose(str, abs)(-3) == "3"
assert compose(lambda x: x * 2, adder(1))(3) == 8

## curried calls
def curry(f, n, *args):
    return f(*args) if len(args) == n else lambda x: curry(f, n, *args, x)
#: tests
assert curry(lambda a, b, c: a + 10 * b + 100 * c, 3)(1)(2)(3) == 321

## generator given by the tests
def total(numbers):
    seen = 0
    for n in numbers:
        seen += n
        if seen > 10: break
    return seen
#: tests
g = (i for i in range(100))
assert total(g) == 15 and next(g) == 6 and total(iter([1, 2])) == 3 and total(map(int, "12")) == 3

## partial and operator
from functools import partial, reduce
import operator
power = partial(pow, 2)
pick = operator.itemgetter(1, 0)
def product(xs): return reduce(operator.mul, xs, 1)
#: tests
assert power(10) == 1024 and pick("ab") == ("b", "a") and product([2, 3, 7]) == 42 and product([]) == 1
assert power.func is pow and power.args == (2,) and sorted([(1, 2), (0, 3)], key=operator.itemgetter(1))[0] == (1, 2)

## cached function
from functools import lru_cache
calls = 0
@lru_cache(maxsize=None)
def paths(r, c):
    global calls
    calls += 1
    return 1 if r == 0 or c == 0 else paths(r - 1, c) + paths(r, c - 1)
#: tests
assert paths(10, 10) == 184756 and calls == 120 and paths.cache_info().misses == 120
paths.cache_clear()
assert paths(1, 1) == 2 and calls == 123
#! @lru_cache(maxsize=None) => @lru_cache(maxsize=1)

## cached property
from functools import cached_property
class Lazy:
    computed = 0
    @cached_property
    def value(self):
        Lazy.computed += 1
        return [1]
#: tests
x = Lazy()
assert x.value is x.value and Lazy.computed == 1
del x.value
assert x.value == [1] and Lazy.computed == 2
#! @cached_property => @property

## dispatch on types
from functools import singledispatch
@singledispatch
def show(x): return f"?{x}"
@show.register
def _(x: int): return f"int {x}"
@show.register(list)
def _(x): return "+".join(map(show, x))
#: tests
assert show(3) == "int 3" and show([1, "a", [2]]) == "int 1+?a+int 2" and show(True) == "int True"
@show.register(str)
def _(x): return "str"
assert show("a") == "str"
#! x: int => x: float

## pattern matching
def evaluate(tree):
    match tree:
        case int() | float() as number: return number
        case ["+", *terms]: return sum(map(evaluate, terms))
        case ["*", a, b]: return evaluate(a) * evaluate(b)
        case {"neg": x, **rest} if not rest: return -evaluate(x)
        case _: raise ValueError(f"cannot evaluate {tree!r}")
#: tests
assert evaluate(["+", 1, ["*", 2, 3], {"neg": 4}]) == 3 and evaluate(2.5) == 2.5
try:
    evaluate(["-", 1])
except ValueError as error:
    assert str(error) == "cannot evaluate ['-', 1]"
else:
    assert False

## walrus, chained comparison, conditional imports
try:
    import numpy_that_is_missing as np
except ImportError:
    np = None
def longest_run(xs):
    best = 0
    while (n := next((i for i, x in enumerate(xs) if x != xs[0]), len(xs))) > 0:
        best, xs = max(best, n), xs[n:]
    return best
#: tests
assert longest_run([1, 1, 2, 2, 2, 1]) == 3 and longest_run([]) == 0 and np is None and 0 < longest_run("ab") < 2

## a function's own attributes
def visits():
    visits.count += 1
    return visits.count
visits.count = 0
#: tests
visits(); visits()
assert visits.count == 2
visits.count = 10
assert visits() == 11
#! visits.count += 1 => visits.count = 1

## signatures and annotations
import inspect
def f(a: int, b: "str" = "x", *c, d=None, **e) -> bool:
    """Says.

    More.
    """
    return bool(a)
#: tests
assert str(inspect.signature(f)) == "(a: int, b: 'str' = 'x', *c, d=None, **e) -> bool"
assert f.__annotations__["return"] is bool and inspect.getdoc(f) == "Says.\n\nMore." and f.__code__.co_argcount == 2

## exec and eval
def calculate(expression, **names): return eval(expression, {"__builtins__": {}}, names)
def define(name, body):
    space = {}
    exec(f"def {name}(x): return {body}", space)
    return space[name]
#: tests
assert calculate("a * (b + 1)", a=2, b=3) == 8 and define("sq", "x * x")(5) == 25
try:
    calculate("open('x')")
except NameError:
    pass
else:
    assert False
#! {"__builtins__": {}} => {}

## a hundred thousand calls
def step(x): return (x * 1103515245 + 12345) % 2147483648
#: tests
x = 1
for _ in range(100_000):
    x = step(x)
assert x == 72206433

## a million elements
def squares(n): return [i * i for i in range(n)]
def total(xs): return sum(xs)
#: tests
found = squares(1_000_000)
assert len(found) == 1_000_000 and found[-1] == 999_998_000_001 and total(found) == 333332833333500000

## sys.exit that is caught
import sys
def leave(code): sys.exit(code)
#: tests
try:
    leave(3)
except SystemExit as error:
    assert error.code == 3
else:
    assert False
#! sys.exit(code) => sys.exit()

## try, else, finally, return
def order(fail):
    log = []
    def run():
        try:
            if fail: raise KeyError
        except KeyError:
            log.append("except")
            return 1
        else:
            log.append("else")
            return 2
        finally:
            log.append("finally")
    return run(), log
#: tests
assert order(True) == (1, ["except", "finally"]) and order(False) == (2, ["else", "finally"])

## exceptions with notes and causes
def parse(text):
    try:
        return int(text)
    except ValueError as error:
        error.add_note(f"while reading {text!r}")
        raise
#: tests
try:
    parse("x")
except ValueError as error:
    assert error.__notes__ == ["while reading 'x'"] and error.args[0].endswith("'x'")
else:
    assert False
#! raise => return error

## thread that works
import threading
def parallel(f, xs):
    out = [None] * len(xs)
    def run(i): out[i] = f(xs[i])
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(xs))]
    for t in threads: t.start()
    for t in threads: t.join()
    return out
#: tests
assert parallel(str, [1, 2, 3]) == ["1", "2", "3"] and parallel(lambda x: x * x, [3]) == [9]

## thread pool and lock
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
total, lock = 0, Lock()
def add(x):
    global total
    with lock:
        total += x
    return x
def run(xs):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(add, xs)), total
#: tests
assert run(range(100)) == (list(range(100)), 4950)

## weak references
import weakref, gc
class Thing: pass
kept = weakref.WeakValueDictionary()
def make(name):
    kept[name] = thing = Thing()
    return thing
#: tests
a = make("a"); make("b")
gc.collect()
assert sorted(kept) == ["a"] and kept["a"] is a
del a
gc.collect()
assert len(kept) == 0
#! weakref.WeakValueDictionary() => {}

## context variables
import contextvars
level = contextvars.ContextVar("level", default=0)
def deeper(f):
    def run():
        level.set(level.get() + 1)
        return f()
    return contextvars.copy_context().run(run)
#: tests
assert deeper(lambda: deeper(level.get)) == 2 and level.get() == 0
#! contextvars.copy_context().run(run) => run()
'''

IN_PLACE = r"""
## list sorted in place
def arrange(xs): xs.sort(key=lambda x: (x % 2, x))
#: tests
xs = [3, 2, 1, 4]
ys = xs
assert arrange(xs) is None and ys == [2, 4, 1, 3]
#! xs.sort(key=lambda x: (x % 2, x)) => xs = sorted(xs)

## the same list comes back
def extend(xs, ys):
    xs += ys
    return xs
#: tests
a = [1]
b = extend(a, [2])
assert b is a and a == [1, 2]
b.append(3)
assert a == [1, 2, 3]
#! xs += ys => xs = xs + ys

## nested lists in place
def transpose(m):
    for i in range(len(m)):
        for j in range(i):
            m[i][j], m[j][i] = m[j][i], m[i][j]
#: tests
m = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
row = m[0]
transpose(m)
assert m == [[1, 4, 7], [2, 5, 8], [3, 6, 9]] and row is m[0] and row == [1, 4, 7]

## one list twice in the arguments
def move(source, target):
    target.append(source.pop(0))
#: tests
xs = [1, 2, 3]
move(xs, xs)
assert xs == [2, 3, 1]
ys = []
move(xs, ys)
assert (xs, ys) == ([3, 1], [2])
#! source.pop(0) => source[0]

## rows that are one row
def grid(n): return [[0] * n] * n
def own(n): return [[0] * n for _ in range(n)]
#: tests
g, h = grid(2), own(2)
g[0][0] = h[0][0] = 1
assert g == [[1, 0], [1, 0]] and h == [[1, 0], [0, 0]] and g[0] is g[1]
#! for _ in range(n)] => ] * n

## aliases in a result survive
def twins():
    inner = []
    return {"a": inner, "b": inner, "c": []}
#: tests
t = twins()
t["a"].append(1)
assert t["b"] == [1] and t["b"] is t["a"] and t["c"] == []
#! "b": inner => "b": []

## kept by the program, changed by the tests
basket = None
def keep(xs):
    global basket
    basket = xs
def size(): return len(basket)
#: tests
xs = [1]
keep(xs)
xs.append(2)
assert size() == 2 and basket is xs
#! basket = xs => basket = list(xs)

## internal state handed out
class Log:
    def __init__(self): self._lines = []
    def lines(self): return self._lines
    def __len__(self): return len(self._lines)
#: tests
log = Log()
log.lines().append("x")
assert len(log) == 1 and log.lines() is log.lines()
#! return self._lines => return self._lines[:]

## list that contains itself
def loop(n):
    xs = [n]
    xs.append(xs)
    return xs
#: tests
xs = loop(1)
assert xs[1] is xs and xs[1][1][0] == 1 and repr(xs) == "[1, [...]]"
#! xs.append(xs) => xs.append([n, xs])

## swap through indices and slices
def rotate(xs, k): xs[:] = xs[k:] + xs[:k]
def drop(xs): del xs[::2]
#: tests
xs = [1, 2, 3, 4, 5]
rotate(xs, 2)
assert xs == [3, 4, 5, 1, 2]
drop(xs)
assert xs == [4, 1]
#! xs[:] = => xs =

## deque in place
from collections import deque
def spin(q, n):
    q.rotate(n)
    q.appendleft(q.pop() * 10)
#: tests
q = deque([1, 2, 3], maxlen=4)
spin(q, 1)
assert list(q) == [20, 3, 1] and q.maxlen == 4
q.extend([7, 8])
assert q == deque([3, 1, 7, 8])

## deque as a result
from collections import deque
def window(xs, n):
    q = deque(maxlen=n)
    for x in xs: q.append(x)
    return q
#: tests
q = window(range(10), 3)
assert q == deque([7, 8, 9]) and q != [7, 8, 9] and q.popleft() == 7 and isinstance(q, deque) and q.maxlen == 3
#! deque(maxlen=n) => deque()

## defaultdict in place
from collections import defaultdict
def index(words, into):
    for i, word in enumerate(words):
        into[word[0]].append(i)
#: tests
d = defaultdict(list)
index(["ab", "b", "ac"], d)
assert d == {"a": [0, 2], "b": [1]} and d["z"] == [] and "z" in d

## defaultdict as a result
from collections import defaultdict
def group(xs):
    d = defaultdict(int)
    for x in xs: d[x] += 1
    return d
#: tests
d = group("aab")
assert d == {"a": 2, "b": 1} and d["c"] == 0 and len(d) == 3 and d.default_factory is int
#! return d => return dict(d)

## counter in place
from collections import Counter
def spend(purse, price): purse.subtract(price)
def common(text): return Counter(text).most_common(1)[0]
#: tests
c = Counter(a=3, b=1)
spend(c, {"a": 1, "z": 2})
assert c == Counter(a=2, b=1, z=-2) and +c == Counter(a=2, b=1) and c["none"] == 0 and common("abb") == ("b", 2)
#! purse.subtract(price) => purse.update(price)

## counter arithmetic as a result
from collections import Counter
def left(a, b): return Counter(a) - Counter(b)
#: tests
assert left("aab", "ab") == Counter("a") == {"a": 1} and sum(left("aaab", "b").values()) == 3
assert list(left("ccab", "").elements()) == ["c", "c", "a", "b"] and type(left("a", "")) is Counter

## ordered dictionary in place
from collections import OrderedDict
def touch(d, key): d.move_to_end(key)
#: tests
d = OrderedDict(a=1, b=2, c=3)
touch(d, "a")
assert list(d) == ["b", "c", "a"] and d == {"a": 1, "b": 2, "c": 3} and d != OrderedDict(a=1, b=2, c=3)
assert d.popitem(last=False) == ("b", 2)
#! d.move_to_end(key) => d.move_to_end(key, last=False)

## dictionary in place
def invert(d):
    for key in list(d):
        d[d.pop(key)] = key
#: tests
d = {"x": 1, "y": 2}
same = d
invert(d)
assert same == {1: "x", 2: "y"} and list(same) == [1, 2]

## nested dictionaries in place
def merge(a, b):
    for key, value in b.items():
        if isinstance(value, dict) and isinstance(a.get(key), dict):
            merge(a[key], value)
        else:
            a[key] = value
    return a
#: tests
inner = {"y": 1}
a = {"x": inner}
assert merge(a, {"x": {"z": 2}, "w": 3}) is a and inner == {"y": 1, "z": 2} and a["x"] is inner
#! merge(a[key], value) => a[key] = a[key] | value

## dictionary changed while iterated
def prune(d):
    for key in d:
        if d[key] is None: del d[key]
#: tests
try:
    prune({"a": None, "b": 1})
except RuntimeError as error:
    assert "changed size" in str(error)
else:
    assert False
#! in d: => in list(d):

## set in place
def sieve(numbers):
    for n in sorted(numbers):
        numbers.difference_update(range(2 * n, 50, n))
#: tests
s = set(range(2, 50))
sieve(s)
assert s == {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47}

## bytearray in place
def shout(data):
    for i, byte in enumerate(data):
        if 97 <= byte <= 122: data[i] = byte - 32
#: tests
data = bytearray(b"abC1")
shout(data)
assert data == b"ABC1" and isinstance(data, bytearray)

## memoryview
def zero(view, start, stop):
    view[start:stop] = bytes(stop - start)
    return view.nbytes
#: tests
data = bytearray(range(5))
assert zero(memoryview(data), 1, 3) == 5 and data == b"\x00\x00\x00\x03\x04"
view = memoryview(b"abc")
assert view[1] == 98 and view[::2].tobytes() == b"ac"
#! return view.nbytes => return view[0]

## array module
from array import array
def scaled(values, k):
    out = array("i", values)
    for i in range(len(out)): out[i] *= k
    return out
#: tests
a = scaled([1, 2], 3)
assert a == array("i", [3, 6]) and a.typecode == "i" and a.tolist() == [3, 6] and sum(a) == 9
#! array("i", values) => array("q", values)

## object of the tests changed by the program
def promote(person):
    person.level += 1
    person.history.append(person.level)
    return person
#: tests
class Person:
    def __init__(self): self.level, self.history = 1, []
p = Person()
assert promote(promote(p)) is p and p.level == 3 and p.history == [2, 3]
#! person.level += 1 => person.level = 2

## object of the tests with operators, used by the program
def total(things):
    out = things[0]
    for thing in things[1:]: out = out + thing
    return out
#: tests
class Money:
    def __init__(self, n): self.n = n
    def __add__(self, other): return Money(self.n + other.n)
    def __eq__(self, other): return self.n == other.n
assert total([Money(1), Money(2)]) == Money(3) and total("ab") == "ab" and total([[1], [2]]) == [1, 2]

## tests subclass the program's class
class Machine:
    def run(self): return [self.step(i) for i in range(3)]
    def step(self, i): raise NotImplementedError
#: tests
class Doubling(Machine):
    def step(self, i): return 2 * i
assert Doubling().run() == [0, 2, 4]
try:
    Machine().run()
except NotImplementedError:
    pass
else:
    assert False

## copies, deep and shallow
import copy
def both(x): return copy.copy(x), copy.deepcopy(x)
#: tests
x = [[1], {2}]
shallow, deep = both(x)
x[0].append(5)
assert shallow == [[1, 5], {2}] and deep == [[1], {2}] and shallow[0] is x[0] and deep[0] is not x[0]
#! copy.deepcopy(x) => copy.copy(x)

## globals patched by the tests
rate = 2
def convert(x): return fetch() * x
def fetch(): return rate
#: tests
assert convert(3) == 6
rate = 5
assert convert(3) == 15
fetch = lambda: 100
assert convert(3) == 300
#! return fetch() * x => return rate * x

## mock of the tests
from unittest import mock
import time
def stamp(): return f"at {time.time():.0f}"
#: tests
with mock.patch("time.time", return_value=7.0) as clock:
    assert stamp() == "at 7"
clock.assert_called_once_with()
assert stamp() != "at 7"
spy = mock.Mock(side_effect=[1, 2])
assert [spy(), spy()] == [1, 2] and spy.call_count == 2

## string builder passed along
import io
def write(stream, words):
    for word in words: print(word, file=stream, end=";")
    return stream
#: tests
s = io.StringIO()
assert write(s, "ab") is s and s.getvalue() == "a;b;"
"""

# What program and tests share where they are in one process.
SHARED = r"""
## list inside a tuple argument
def fill(pair):
    pair[0].append(len(pair[1]))
#: tests
pair = ([1], {"a": 2})
first = pair[0]
fill(pair)
assert pair == ([1, 1], {"a": 2}) and first == [1, 1]

## inner lists of a result belong to the argument
def ends(rows): return rows[0], rows[-1]
def boxed(rows): return {"rows": [rows]}
#: tests
rows = [[1], [2], [3]]
a, b = ends(rows)
a.append(9)
assert rows == [[1, 9], [2], [3]]
boxed(rows)["rows"][0].pop()
assert rows == [[1, 9], [2]]

## inner lists of results belong to the program
shared = []
def view(): return [shared, (shared,)]
def put(x): shared.append(x)
#: tests
a = view()
put(1)
a[0].append(2)
assert a == [[1, 2], ([1, 2],)] and view()[1][0] == [1, 2]

## one set twice in a result
from collections import deque
def twins():
    inner, queue = set(), deque()
    return {"a": inner, "b": inner, "c": queue, "d": [queue]}
#: tests
t = twins()
t["a"].add(1)
t["c"].append(2)
assert t["b"] == {1} and t["d"] == [deque([2])]

## queue inside an argument
def enqueue(lines, x):
    for line in lines: line.append(x)
#: tests
from collections import deque
q, s = deque([1], maxlen=2), [7]
lines = [q, s, q]
enqueue(lines, 5)
assert q == deque([5, 5]) and s == [7, 5]

## one inner list in two arguments
def pour(a, b):
    a[0].append("a")
    b[0].append("b")
#: tests
inner = []
pour([inner], (inner,))
assert inner == ["a", "b"]

## callback that changes another argument
def run(step, log):
    for i in range(3): step(i)
    log.append(len(log))
#: tests
log = []
run(lambda i: log.append(i * 10), log)
assert log == [0, 10, 20, 3]

## function that replaces itself
def once():
    global once
    once = lambda: 2
    return 1
#: tests
first = once
assert first() == 1 and once() == 2 and first() == 1

## view of a dictionary that grows
seen = {}
def names(): return seen.keys()
def see(name): seen[name] = len(seen)
#: tests
found = names()
see("a"); see("b")
assert found == {"a", "b"} and list(found) == ["a", "b"]

## attributes of standard exceptions
def read(name): return open(name).read()
def load(name): return __import__(name)
def ask(x): return x.missing
#: tests
try:
    read("nowhere.txt")
except FileNotFoundError as error:
    assert error.filename == "nowhere.txt" and error.errno == 2
try:
    load("no_module_of_this_name")
except ImportError as error:
    assert error.name == "no_module_of_this_name"
try:
    ask([])
except AttributeError as error:
    assert error.name == "missing" and error.obj == []

## causes of standard exceptions
def number(text):
    try:
        return {"one": 1}[text]
    except KeyError as error:
        raise ValueError(f"no number: {text}") from error
def plain(text):
    try:
        return int(text)
    except ValueError:
        raise LookupError(text) from None
#: tests
try:
    number("two")
except ValueError as error:
    assert isinstance(error.__cause__, KeyError) and error.__cause__.args == ("two",)
try:
    plain("x")
except LookupError as error:
    assert isinstance(error.__context__, ValueError) and error.__suppress_context__

## identity of constants
def kind(x): return "number" if x else "nothing"
def limit(): return 1000
#: tests
assert kind(1) is "number" and kind(0) is "nothing" and limit() is 1000 and kind(2) is kind(3)

## settings of the interpreter
import sys
sys.set_int_max_str_digits(0)
def giant(): return 10 ** 5000
#: tests
assert len(str(giant())) == 5001 and int("9" * 5000) > 0

## context of decimals
from decimal import Decimal, getcontext
getcontext().prec = 6
def third(): return Decimal(1) / 3
#: tests
from decimal import Decimal
assert third() == Decimal("0.333333") == Decimal(1) / 3 and str(Decimal(2) / 3) == "0.666667"

## second time of an hour
from datetime import datetime
def twice(): return datetime(2024, 10, 27, 2, 30).replace(fold=1)
#: tests
assert twice().fold == 1 and twice() == datetime(2024, 10, 27, 2, 30)

## builtins as functions of the program
import operator
largest, upper, second, whole = max, str.upper, operator.itemgetter(1), int
#: tests
assert largest([1, 3, 2]) == 3 and upper("ab") == "AB" and second([5, 6]) == 6 and whole("7") == 7
assert largest(3, 9, key=lambda x: -x) == 3

## a class that is called like a function
class Solution:
    def isqrt(self, n): return int(n ** 0.5)
    @staticmethod
    def double(n): return 2 * n
#: tests
assert Solution().isqrt(17) == 4 and Solution.double(4) == 8

## threads of the tests
def square(x): return x * x
#: tests
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(square, range(50))) == [x * x for x in range(50)]

## deep recursion with callbacks
def walk(f, n): return n if n == 0 else f(walk(f, n - 1))
def bounce(f, n): return 0 if n == 0 else f(n - 1)
#: tests
assert walk(lambda x: x + 1, 100) == 100
def back(n): return 1 + bounce(back, n)
assert bounce(back, 15) == 15

## dictionary changed while the tests iterate
def grow(d, key): d[key * 2] = key
def keep(xs, x):
    if len(xs) < 6: xs.append(x + 1)
#: tests
d = {"a": 1}
for key in list(d): grow(d, key)
xs = [0]
for x in xs: keep(xs, x)
assert d == {"a": 1, "aa": "a"} and xs == [0, 1, 2, 3, 4, 5]

## sort that calls the tests
def arrange(xs, key): xs.sort(key=key, reverse=True)
#: tests
words = ["aa", "b", "cccc"]
seen = []
arrange(words, lambda w: seen.append(w) or len(w))
assert words == ["cccc", "aa", "b"] and seen == ["aa", "b", "cccc"]

## set that goes on growing
def start():
    s = set(range(10))
    for i in range(7): s.discard(i)
    return s
#: tests
s = start()
s.add(1000); s.add(-1); s.add(33)
expected = set(range(10))
for i in range(7): expected.discard(i)
expected |= {1000}; expected |= {-1}; expected |= {33}
assert list(s) == list(expected)

## counter of calls by attribute and default
def f(x, calls=[0]):
    calls[0] += 1
    return calls[0] * x
#: tests
assert [f(1), f(1), f(2)] == [1, 2, 6] and f.__defaults__ == ([3],)
"""

VALUES = r"""
## not a number
def nan(): return float("nan")
def clean(xs): return [x for x in xs if x == x]
#: tests
n = nan()
assert n != n and [n] == [n] and n in [n] and nan() not in [nan()] and clean([n, 1.0]) == [1.0]
assert {n: 1}[n] == 1 and not n < 1 and not n > 1 and str(n) == "nan"
#! if x == x => if x != x

## the same not-a-number
NAN = float("nan")
def find(xs): return [x for x in xs if x is NAN]
#: tests
assert find([NAN, 1.0]) == [NAN] and find([float("nan")]) == []
#! is NAN => != x

## negative zero and infinities
import math
def sign(x): return math.copysign(1, x)
def edges(): return -0.0, float("inf"), -math.inf
#: tests
zero, top, bottom = edges()
assert sign(zero) == -1 and zero == 0 and repr(zero) == "-0.0" and top > 10 ** 308 and bottom == -top
assert math.isnan(top + bottom) and sign(0.0) == 1
#! return -0.0, => return 0.0,

## floats to the last bit
def parts(x): return x.hex(), x.as_integer_ratio(), (0.1 + 0.2)
#: tests
assert parts(0.5) == ("0x1.0000000000000p-1", (1, 2), 0.30000000000000004) and 5e-324 / 2 == 0.0
assert parts(1e308)[0] == "0x1.1ccf385ebc8a0p+1023" and repr(1e16) == "1e+16" and repr(1e15) == "1000000000000000.0"

## big integers
def power(n): return 7 ** n
#: tests
assert power(200) % 1000 == 1 and power(3000).bit_length() == 8423 and power(100) // power(99) == 7
assert -power(50) >> 3 == -(power(50) // 8) - 1 and power(20) == 79792266297612001 and power(10) & 0xFF == 241

## integers too long to print
def giant(): return 10 ** 5000
#: tests
try:
    str(giant())
except ValueError as error:
    assert "4300" in str(error)
else:
    assert False
assert giant() == 10 ** 5000 and giant() // 10 ** 4999 == 10

## booleans are integers
def truth(x): return x > 0
#: tests
assert truth(1) is True and truth(1) == 1 and truth(1) + truth(2) == 2 and {True: "a", 1: "b"} == {1: "b"}
assert type(truth(0)) is bool and [True, 2] == [1, 2] and repr(truth(-1)) == "False"
#! x > 0 => int(x > 0)

## types as results
def kind(x): return type(x)
#: tests
assert kind(1) is int and kind(True) is bool and kind(1.0) == float and kind(kind) is type(lambda: 0)
assert kind(None)() is None and kind(int) is type and kind("").__name__ == "str" and kind([])("ab") == ["a", "b"]
#! type(x) => x.__class__.__mro__[-1]

## singletons as results
def odd(which): return {0: None, 1: Ellipsis, 2: NotImplemented, 3: ()}[which]
#: tests
assert odd(0) is None and odd(1) is ... and odd(2) is NotImplemented and odd(3) == ()
#! 1: Ellipsis => 1: "..."

## bytes
def pack(text): return text.encode("utf-16-le")
#: tests
assert pack("aß") == b"a\x00\xdf\x00" and pack("\N{SNAKE}")[-1] == 0xDC and pack("") == b""
assert b"%d-%s" % (3, b"x") == b"3-x" and bytes.fromhex("00ff")[::-1] == b"\xff\x00"

## bytes that are no text
def decode(data): return data.decode("utf-8", "surrogateescape")
#: tests
assert decode(b"a\xff") == "a\udcff" and decode(b"a\xff").encode("utf-8", "surrogateescape") == b"a\xff"
try:
    decode(b"\xff").encode()
except UnicodeEncodeError as error:
    assert error.start == 0
else:
    assert False
#! "surrogateescape" => "replace"

## unicode
import unicodedata
def fold(s): return unicodedata.normalize("NFC", s).casefold()
#: tests
assert fold("Straße") == "strasse" and fold("e\u0301") == "é" and len("👩‍👩‍👧") == 5 and "ǆ".title() == "ǅ"
assert "İ".lower() == "i̇" and "١٢".isdigit() and int("١٢") == 12 and "ﬁ".upper() == "FI" and fold("日本") == "日本"
#! NFC => NFKD

## complex numbers
def roots(a, b, c):
    d = (b * b - 4 * a * c) ** 0.5 if b * b >= 4 * a * c else complex(0, (4 * a * c - b * b) ** 0.5)
    return (-b + d) / (2 * a), (-b - d) / (2 * a)
#: tests
assert roots(1, -3, 2) == (2, 1) and roots(1, 0, 1) == (1j, -1j) and abs(3 + 4j) == 5.0
assert roots(1, 0, 4)[0].imag == 2 and (1 + 2j).conjugate() == 1 - 2j and complex("1+2j") == 1 + 2j

## fractions
from fractions import Fraction
def harmonic(n): return sum(Fraction(1, k) for k in range(1, n + 1))
#: tests
assert harmonic(4) == Fraction(25, 12) and harmonic(1) == 1 and harmonic(2) == 1.5 and float(harmonic(3)) > 1.8
assert harmonic(2).numerator == 3 and Fraction("0.125") == Fraction(1, 8) and isinstance(harmonic(3), Fraction)

## decimals
from decimal import Decimal, ROUND_HALF_UP, getcontext, localcontext
def price(x): return Decimal(x).quantize(Decimal("0.01"), ROUND_HALF_UP)
def third(digits):
    with localcontext() as context:
        context.prec = digits
        return Decimal(1) / 3
#: tests
assert price("2.675") == Decimal("2.68") and str(price("1")) == "1.00" and third(4) == Decimal("0.3333")
assert Decimal("0.1") + Decimal("0.2") == Decimal("0.3") and getcontext().prec == 28
assert str(Decimal("1E+3")) == "1E+3" and Decimal("-0").is_signed() and Decimal("1.0").as_tuple().exponent == -1

## dates
from datetime import date, datetime, time, timedelta, timezone
def next_friday(day): return day + timedelta((4 - day.weekday()) % 7)
def utc(text): return datetime.fromisoformat(text).astimezone(timezone.utc)
#: tests
assert next_friday(date(2024, 2, 28)) == date(2024, 3, 1) and (date(2024, 3, 1) - date(2023, 3, 1)).days == 366
assert utc("2020-01-01T01:00:00+02:00") == datetime(2019, 12, 31, 23, tzinfo=timezone.utc)
assert utc("2020-01-01T01:00:00+02:00").tzinfo is timezone.utc and time(1, 2) < time(2, 1)
assert timedelta(hours=25) == timedelta(1, 3600) and f"{date(2020, 1, 2):%d.%m.%y}" == "02.01.20"

## frozen sets
def families(words): return {frozenset(word) for word in words}
#: tests
assert families(["tea", "eat", "ate", "tan"]) == {frozenset("tea"), frozenset("nat")}
assert frozenset("ab") in families(["ba"]) and frozenset([1]) == {1} and {frozenset(): 1}[frozenset()] == 1

## order of a set of integers
def listed(s): return list(s)
#: tests
s = set()
for x in (33, 1, 65, 32, 64): s.add(x)
t = set([64, 32, 65, 1, 33])
assert listed(s) == list(s) and listed(t) == list(t) and listed({8, 0, 1}) == list({8, 0, 1})
assert listed({3, 1, 2}) == [1, 2, 3] and listed(set(range(20, 0, -1))) == list(range(1, 21))
#! list(s) => sorted(s)[::-1]

## order of a set of strings
words = {"one", "two", "three", "four", "five"}
def listed(s): return list(s)
#: tests
here = {"one", "two", "three", "four", "five"}
assert listed(here) == list(here) and list(words) == list(here) and listed(words) == list(words)
assert "".join(here) == "".join(words) and {"a", "b"} == {"b", "a"}
#! return list(s) => return list(s)[::-1]

## order of a set after removals
def popped(s):
    out = []
    while s: out.append(s.pop())
    return out
#: tests
s = set(range(100))
s -= set(range(3, 97))
assert popped(set(s)) == [0, 1, 2, 97, 98, 99] and popped(s) == sorted([0, 1, 2, 97, 98, 99]) and s == set()

## order of a dictionary
def by_count(text):
    counts = {}
    for c in text: counts[c] = counts.get(c, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
#: tests
d = by_count("abcbcc")
assert list(d) == ["c", "b", "a"] and list(d.values()) == [3, 2, 1] and d == {"a": 1, "b": 2, "c": 3}
assert str(d) == "{'c': 3, 'b': 2, 'a': 1}" and next(reversed(d)) == "a"
#! key=lambda item: -item[1] => key=lambda item: item[1]

## dictionary views
def views(d): return d.keys(), d.values(), d.items()
#: tests
d = {"a": 1, "b": 2}
k, v, i = views(d)
d["c"] = 3
assert k == {"a", "b", "c"} and list(v) == [1, 2, 3] and ("c", 3) in i and k & {"a"} == {"a"} and len(i) == 3
#! d.keys(), => list(d.keys()),

## keys of many kinds
def index(*keys): return {key: i for i, key in enumerate(keys)}
#: tests
d = index((1, 2), None, 1.5, "x", b"x", frozenset([1]), True, range(3), int)
assert d[1, 2] == 0 and d[None] == 1 and d[1] == 6 and d[b"x"] == 4 and d[range(0, 3)] == 7 and d[int] == 8

## ranges and slices as results
def window(i, n): return slice(i, i + n), range(i, i + n)
#: tests
s, r = window(2, 3)
assert "abcdefg"[s] == "cde" and s == slice(2, 5) and r == range(2, 5) and r[-1] == 4 and 3 in r and len(r) == 3
assert s.indices(4) == (2, 4, 1) and isinstance(r, range) and list(r[::-1]) == [4, 3, 2] and range(0) == range(2, 2)

## equal but of another type
def numbers(): return [1, 1.0, True, 1 + 0j]
#: tests
found = numbers()
assert found == [1, 1, 1, 1] and [type(x) for x in found] == [int, float, bool, complex] and (1, 2) != [1, 2]
assert "1" != 1 and b"a" != "a" and {1} == frozenset([1]) and {1: 2} != [(1, 2)]
#! [1, 1.0, => [1, 1,

## deep nesting
def nest(n):
    out = []
    for _ in range(n): out = [out]
    return out
#: tests
x, n = nest(300), 0
while x: x, n = x[0], n + 1
assert n == 300 and nest(2) == [[[]]]

## mixed containers
def table(): return {"a": [(1, {2, 3}), {"b": (None, b"x", 1.5)}], ("k", 1): frozenset({"z"})}
#: tests
assert table() == {("k", 1): frozenset("z"), "a": [(1, {3, 2}), {"b": (None, b"x", 1.5)}]}
assert table()["a"][0][1] >= {2} and isinstance(table()["a"][1]["b"], tuple)
#! (None, b"x" => (None, "x"

## strings of a megabyte
def long(c, n): return c * n
#: tests
assert len(long("é", 10 ** 6)) == 10 ** 6 and long("ab", 10 ** 5).count("ba") == 99999
assert long(b"x", 10 ** 6)[-1] == 120

## interning and identity
def same(a, b): return a is b
#: tests
x = [1]
assert same(None, None) and same(x, x) and not same([1], [1]) and same(int, int) and not same({}, {})
#! a is b => a == b

## exceptions as values
def attempt(f, *args):
    try:
        return "ok", f(*args)
    except Exception as error:
        return "error", error
#: tests
assert attempt(int, "5") == ("ok", 5)
kind, error = attempt(int, "x")
assert kind == "error" and isinstance(error, ValueError) and "invalid literal" in error.args[0]
assert attempt({}.__getitem__, "k")[1].args == ("k",) and str(attempt(lambda: 1 / 0)[1]) == "division by zero"
#! return "error", error => return "error", str(error)

## modules as values
import math, string
def pick(name): return {"m": math, "s": string}[name]
#: tests
assert pick("m").sqrt(16) == 4 and pick("s").digits == "0123456789" and pick("m") is math

## packed structures
import struct
def header(kind, size): return struct.pack(">BH", kind, size)
#: tests
assert header(1, 258) == b"\x01\x01\x02" and struct.unpack(">BH", header(7, 9)) == (7, 9)
try:
    header(256, 0)
except struct.error:
    pass
else:
    assert False

## strange names
def π(r): return 3 * r
class _: __x = 1
def __dunder__(): return getattr(_, "__x", 2)
#: tests
assert π(2) == 6 and __dunder__() == 1
"""

LIBRARY = r"""
## heap
import heapq
def merge(*lists):
    heap = [(xs[0], i, 0) for i, xs in enumerate(lists) if xs]
    heapq.heapify(heap)
    out = []
    while heap:
        value, i, j = heapq.heappop(heap)
        out.append(value)
        if j + 1 < len(lists[i]): heapq.heappush(heap, (lists[i][j + 1], i, j + 1))
    return out
#: tests
assert merge([1, 4], [2, 3], []) == [1, 2, 3, 4] and merge() == [] and heapq.nsmallest(2, merge([5, 9], [7])) == [5, 7]

## heap in place
import heapq
def replace_smallest(heap, x): return heapq.heapreplace(heap, x)
#: tests
h = [1, 3, 2]
assert replace_smallest(h, 0) == 1 and h[0] == 0 and sorted(h) == [0, 2, 3]
#! heapq.heapreplace => heapq.heappushpop

## bisect
import bisect
def grade(score): return "FDCBA"[bisect.bisect([60, 70, 80, 90], score)]
def keep_sorted(xs, x): bisect.insort(xs, x)
#: tests
assert [grade(s) for s in (33, 60, 89, 90)] == ["F", "D", "B", "A"]
xs = [1, 5]
keep_sorted(xs, 3)
assert xs == [1, 3, 5]

## itertools
from itertools import accumulate, chain, combinations, count, groupby, permutations, product, zip_longest, pairwise
def runs(s): return [(k, len(list(g))) for k, g in groupby(s)]
def sums(xs): return accumulate(xs)
def all_pairs(n): return combinations(range(n), 2)
def naturals(): return count(1)
#: tests
assert runs("aabccc") == [("a", 2), ("b", 1), ("c", 3)] and list(sums([1, 2, 3])) == [1, 3, 6]
assert len(list(all_pairs(5))) == 10 and next(naturals()) == 1 and [*zip(naturals(), "ab")] == [(1, "a"), (2, "b")]
assert list(pairwise("abc")) == [("a", "b"), ("b", "c")] and len([*permutations("abc")]) == 6
#! accumulate(xs) => xs

## regular expressions
import re
TOKEN = re.compile(r"\s*(?:(?P<number>\d+)|(?P<op>[-+*/()]))")
def tokens(text): return [(m.lastgroup, m[m.lastgroup]) for m in TOKEN.finditer(text)]
def match(text): return re.match(r"(\w+)@(\w+)\.com", text)
#: tests
assert tokens("12 + 3") == [("number", "12"), ("op", "+"), ("number", "3")]
m = match("ann@site.com!")
assert m and m.groups() == ("ann", "site") and m.span(2) == (4, 8) and match("none") is None
assert re.sub(r"(?<=a)b+", lambda m: str(len(m[0])), "abb b") == "a2 b" and TOKEN.groups == 2

## json
import json
def dump(x): return json.dumps(x, sort_keys=True, separators=(",", ":"))
class Encoder(json.JSONEncoder):
    def default(self, o): return sorted(o) if isinstance(o, set) else super().default(o)
#: tests
assert dump({"b": [1, None, True], "a": "é"}) == '{"a":"\\u00e9","b":[1,null,true]}'
assert json.loads(dump({"1": 2.50})) == {"1": 2.5} and json.dumps({1, 2}, cls=Encoder) == "[1, 2]"
try:
    json.loads("{'a': 1}")
except json.JSONDecodeError as error:
    assert error.pos == 1
else:
    assert False
#! sort_keys=True => sort_keys=False

## string formatting
from string import Template
def show(name, value): return f"{name!r:>8}|{value:+08.2f}|{value:,.0f}|{int(value):#x}|{int(value):b}"
def old(x): return "%05d %-4s| %x %%" % (x, "ab", x)
def template(**kw): return Template("$a and ${b}c").safe_substitute(kw)
#: tests
assert show("ab", 1234.5) == "    'ab'|+1234.50|1,234|0x4d2|10011010010" and old(31) == "00031 ab  | 1f %"
assert template(a=1) == "1 and ${b}c" and "{0[k]} {1.real:.1f} {x:^5}".format({"k": 2}, 3.0, x="m") == "2 3.0   m  "

## random with a seed
import random
def shuffled(xs, seed):
    random.seed(seed)
    xs = list(xs)
    random.shuffle(xs)
    return xs
def dice(seed): return random.Random(seed).randint(1, 6)
#: tests
assert shuffled(range(10), 3) == shuffled(range(10), 3) and sorted(shuffled("cab", 1)) == ["a", "b", "c"]
assert [dice(0), dice(1)] == [dice(0), dice(1)] and shuffled(range(50), 1) != list(range(50))
random.seed(5)
first = random.random()
random.seed(5)
assert random.random() == first == 0.6229016948897019
#! random.seed(seed) => random.seed()

## random seeded by the tests
import random
def roll(n): return [random.randrange(6) for _ in range(n)]
#: tests
random.seed(42)
a = roll(5)
random.seed(42)
assert roll(5) == a == [5, 0, 0, 5, 2]

## statistics
import statistics
def summary(xs): return statistics.mean(xs), statistics.median(xs), statistics.mode(xs), statistics.pstdev(xs)
#: tests
assert summary([1, 2, 2, 3]) == (2, 2, 2, 0.7071067811865476)
try:
    summary([])
except statistics.StatisticsError:
    pass
else:
    assert False

## chain map and simple namespace
from collections import ChainMap
from types import SimpleNamespace, MappingProxyType
defaults = MappingProxyType({"color": "red", "size": 1})
def settings(**own): return ChainMap(own, defaults)
def space(**kw): return SimpleNamespace(**kw)
#: tests
s = settings(size=3)
assert s["size"] == 3 and s["color"] == "red" and len(s) == 2 and space(a=1) == space(a=1) and space(a=1).a == 1
s["color"] = "blue"
assert defaults["color"] == "red" and s.maps[0] == {"size": 3, "color": "blue"}
try:
    defaults["x"] = 1
except TypeError:
    pass
else:
    assert False
#! ChainMap(own, defaults) => ChainMap(dict(defaults), own)

## comparison functions
from functools import cmp_to_key
def largest(numbers):
    order = cmp_to_key(lambda a, b: int(b + a) - int(a + b))
    return "".join(sorted(map(str, numbers), key=order))
#: tests
assert largest([3, 30, 34, 5, 9]) == "9534330"
assert sorted("bac", key=cmp_to_key(lambda a, b: ord(b) - ord(a))) == [*"cba"]

## hashes, base64, compression
import base64, hashlib, zlib
def digest(text): return hashlib.sha256(text.encode()).hexdigest()[:8]
def round_trip(data): return zlib.decompress(base64.b85decode(base64.b85encode(zlib.compress(data))))
#: tests
assert digest("a") == "ca978112" and round_trip(b"x" * 1000) == b"x" * 1000 and zlib.crc32(b"abc") == 891568578

## pickling the program's objects
import pickle
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and self.x == other.x
    def __getstate__(self): return {"x": self.x + 1}
#: tests
assert pickle.loads(pickle.dumps(Point(1))) == Point(2) and pickle.loads(pickle.dumps([1, {2}])) == [1, {2}]
#! self.x + 1 => self.x

## text tools
import textwrap, difflib
def wrap(text, width): return textwrap.fill(text, width).splitlines()
def closest(word, words): return difflib.get_close_matches(word, words, n=1)
#: tests
assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"] and closest("appel", ["ape", "apple"]) == ["apple"]
assert textwrap.dedent("  a\n   b") == "a\n b" and "a\x0bb\x85c".splitlines() == ["a", "b", "c"]

## calendar and time
import calendar, time
def leap(year): return calendar.isleap(year)
def clock(seconds): return time.strftime("%H:%M:%S", time.gmtime(seconds))
#: tests
assert leap(2000) and not leap(1900) and clock(3725) == "01:02:05" and calendar.monthrange(2024, 2)[1] == 29
start = time.perf_counter()
time.sleep(0.01)
assert time.perf_counter() - start >= 0.009

## syntax trees
import ast
def names(source): return sorted({node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)})
#: tests
assert names("a + b * f(c)") == ["a", "b", "c", "f"] and ast.literal_eval("[1, (2,)]") == [1, (2,)]
try:
    names("a +")
except SyntaxError:
    pass
else:
    assert False
#! ast.Name) => ast.Call)

## typing at run time
from typing import Callable, Generic, Optional, Protocol, TypeVar, get_type_hints, runtime_checkable
T = TypeVar("T")
class Box(Generic[T]):
    def __init__(self, item: T): self.item = item
    def map(self, f: Callable[[T], T]) -> "Box[T]": return Box(f(self.item))
@runtime_checkable
class Sized(Protocol):
    def size(self) -> int: ...
class Thing:
    def size(self): return 1
def f(x: Optional[int] = None) -> list[int]: return [x or 0]
#: tests
assert Box[int](3).map(lambda x: x + 1).item == 4 and isinstance(Thing(), Sized) and not isinstance(3, Sized)
assert get_type_hints(f) == {"x": Optional[int], "return": list[int]} and f() == [0]

## files of its own
import os, tempfile
def save(lines):
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
        file.writelines(line + "\n" for line in lines)
    return file.name
#: tests
name = save(["a", "b"])
with open(name) as file:
    assert file.read() == "a\nb\n"
assert name.endswith(".txt") and os.path.getsize(name) == 4
os.remove(name)
assert not os.path.exists(name)
#! + "\n" => + "\r\n"

## logging and warnings
import logging, warnings, io
stream = io.StringIO()
log = logging.getLogger("program")
log.addHandler(logging.StreamHandler(stream))
def old():
    warnings.warn("use new", DeprecationWarning, stacklevel=2)
    log.warning("old %d", 1)
#: tests
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    old()
assert [str(w.message) for w in caught] == ["use new"] and stream.getvalue() == "old 1\n"
#! DeprecationWarning => "x"

## queues
from queue import Empty, PriorityQueue, Queue
def drain(items):
    q = PriorityQueue()
    for item in items: q.put(item)
    out = []
    while True:
        try:
            out.append(q.get_nowait())
        except Empty:
            return out
#: tests
assert drain([(2, "b"), (1, "z"), (1, "a")]) == [(1, "a"), (1, "z"), (2, "b")]

## numbers tower
import numbers
from fractions import Fraction
class Mine: pass
numbers.Number.register(Mine)
def level(x):
    kinds = (numbers.Integral, numbers.Rational, numbers.Real, numbers.Complex, numbers.Number)
    return next((kind.__name__ for kind in kinds if isinstance(x, kind)), None)
#: tests
assert [level(x) for x in (True, Fraction(1, 2), 1.5, 1j, Mine(), "")] == [
    "Integral", "Rational", "Real", "Complex", "Number", None]
#! numbers.Rational, numbers.Real => numbers.Real, numbers.Rational

## mathematics
import math, cmath
def facts(n): return math.gcd(n, 36), math.isqrt(n), math.comb(n, 2), math.prod(range(1, 6)), math.factorial(n)
#: tests
assert facts(10) == (2, 3, 45, 120, 3628800) and math.isclose(cmath.exp(1j * math.pi).real, -1)
assert math.fsum([0.1] * 10) == 1.0 and math.hypot(3, 4) == 5 and math.nextafter(1.0, 2.0) > 1.0

## csv and configuration
import csv, io, configparser
def rows(text): return list(csv.DictReader(io.StringIO(text)))
def option(text, section, key):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return parser[section].getint(key)
#: tests
assert rows('a,b\n1,"x, y"\n') == [{"a": "1", "b": "x, y"}] and option("[s]\nk = 4", "s", "k") == 4
#! .getint(key) => .get(key)

## identifiers and secrets
import uuid, secrets
def make(name): return uuid.uuid5(uuid.NAMESPACE_DNS, name)
#: tests
assert str(make("a.b")) == str(make("a.b")) and make("a.b") != make("c") and make("x").version == 5
assert isinstance(make("x"), uuid.UUID) and len(secrets.token_hex(4)) == 8
"""

PRINTING = r"""
## printed lines
def hello(names):
    for name in names: print("Hello", name, sep=", ", end="!\n")
#: tests
import io
from contextlib import redirect_stdout
out = io.StringIO()
with redirect_stdout(out):
    hello(["Ann", "Bo"])
assert out.getvalue() == "Hello, Ann!\nHello, Bo!\n"
#! end="!\n" => end="\n"

## standard output replaced
import sys
def shout(text): sys.stdout.write(text.upper())
#: tests
import io, sys
kept, sys.stdout = sys.stdout, io.StringIO()
try:
    shout("abc"); print("d")
    found = sys.stdout.getvalue()
finally:
    sys.stdout = kept
assert found == "ABCd\n"

## printing while loading
print("loading…")
def f(x):
    print("called with", x)
    return x + 1
#: tests
print("testing")
assert f(1) == 2
print("done")

## standard error
import sys
def warn(text): print(text, file=sys.stderr)
#: tests
import io
from contextlib import redirect_stderr
with redirect_stderr(io.StringIO()) as err:
    warn("careful")
assert err.getvalue() == "careful\n"
#! file=sys.stderr => file=sys.stdout

## no input
def ask():
    try:
        return input("name? ")
    except EOFError:
        return "nobody"
#: tests
assert ask() == "nobody"
#! except EOFError => except KeyError

## input given by the tests
def total():
    n = int(input())
    return sum(int(input()) for _ in range(n))
#: tests
import builtins
lines = iter(["2", "10", "20"])
input = lambda *_: next(lines)
assert total() == 30

## standard input replaced
import sys
def words(): return sys.stdin.read().split()
#: tests
import io, sys
sys.stdin = io.StringIO("a b\nc")
assert words() == ["a", "b", "c"]

## much output
def noisy(n):
    for i in range(n): print("line", i)
    return n
#: tests
assert noisy(20000) == 20000

## representation and printing of own objects
class Money:
    def __init__(self, n): self.n = n
    def __repr__(self): return f"Money({self.n})"
    def __str__(self): return f"${self.n}"
def show(*things): return " ".join(map(str, things)), repr(list(things))
#: tests
assert show(Money(1), 2) == ("$1 2", "[Money(1), 2]") and f"{Money(3)!r} {Money(3)}" == "Money(3) $3"
"""

STYLES = r'''
## check function
def add(a, b):
    """Adds.

    >>> add(1, 2)
    3
    """
    return a + b
#: tests
METADATA = {"author": "x"}
def check(candidate):
    assert candidate(1, 2) == 3
    assert candidate("a", "b") == "ab", "strings"
    assert candidate([], []) == []
check(add)

## doctest
def triple(x):
    """Triples.

    >>> triple(2)
    6
    >>> triple("a")
    'aaa'
    >>> triple(None)
    Traceback (most recent call last):
    TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'
    """
    return x * 3
#: tests
import doctest
finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
for test in finder.find(triple, "triple", globs={"triple": triple}, module=False):
    assert runner.run(test).failed == 0

## unittest
def divide(a, b): return a / b
#: tests
import unittest
class TestDivide(unittest.TestCase):
    def setUp(self): self.cases = [(4, 2, 2), (1, 2, 0.5)]
    def test_values(self):
        for a, b, expected in self.cases:
            with self.subTest(a=a): self.assertEqual(divide(a, b), expected)
    def test_zero(self):
        with self.assertRaisesRegex(ZeroDivisionError, "division"): divide(1, 0)
    @unittest.skip("not now")
    def test_later(self): self.fail()
result = unittest.TextTestRunner(verbosity=0).run(unittest.defaultTestLoader.loadTestsFromTestCase(TestDivide))
assert result.wasSuccessful() and result.testsRun == 3
#! a / b => a // b

## unittest that raises at once
def halves(xs): return [x / 2 for x in xs]
#: tests
import unittest
class Checks(unittest.TestCase):
    def test_halves(self):
        self.assertListEqual(halves([2, 4]), [1, 2])
        self.assertAlmostEqual(halves([1 / 3])[0], 0.1666667, places=5)
        self.assertCountEqual(halves([4, 2]), [1, 2])
        self.assertIsInstance(halves([]), list)
Checks("test_halves").debug()

## unittest main
def f(x): return x
#: tests
import unittest
class T(unittest.TestCase):
    def test(self): self.assertIs(f(None), None)
result = unittest.main(argv=["tests"], exit=False).result
assert result.wasSuccessful() and result.testsRun == 1
#! return x => return x or 0

## exception expected by try
def pop(xs):
    if not xs: raise IndexError("pop from empty stack")
    return xs.pop()
#: tests
try:
    pop([])
    assert False, "expected an error"
except IndexError as e:
    assert str(e) == "pop from empty stack"
xs = [1, 2]
assert pop(xs) == 2 and xs == [1]

## any exception will do
def sqrt(x):
    if x < 0: raise ValueError
    return x ** 0.5
#: tests
raised = False
try:
    sqrt(-1)
except Exception:
    raised = True
assert raised and sqrt(9) == 3

## loops and helpers in the tests
def is_prime(n): return n > 1 and all(n % d for d in range(2, int(n ** 0.5) + 1))
#: tests
def naive(n): return n > 1 and not any(n % d == 0 for d in range(2, n))
for n in range(-3, 200):
    assert is_prime(n) == naive(n), n
assert sum(map(is_prime, range(100))) == 25 and [n for n in range(20) if is_prime(n)][-1] == 19

## tests with random input
def sort(xs):
    if len(xs) < 2: return xs
    pivot, *rest = xs
    return sort([x for x in rest if x < pivot]) + [pivot] + sort([x for x in rest if x >= pivot])
#: tests
import random
rng = random.Random(0)
for _ in range(50):
    xs = [rng.randint(-9, 9) for _ in range(rng.randint(0, 20))]
    before = xs[:]
    assert sort(xs) == sorted(xs) and xs == before

## main guard
def f(x): return x + 1
if __name__ == "__main__":
    value = f(1)
#: tests
assert f(2) == 3
if __name__ == "__main__":
    assert f(3) == 4

## program with a main function
def main(argv=None): return len(argv or [])
if __name__ == "__never__":
    main(["x"])
#: tests
assert main() == 0 and main(["a", "b"]) == 2
#! argv or [] => argv

## future annotations
"""A module with a docstring."""
from __future__ import annotations
def f(x: Missing) -> AlsoMissing: return x
#: tests
assert f(1) == 1 and f.__annotations__ == {"x": "Missing", "return": "AlsoMissing"} and __doc__.startswith("A module")
#! from __future__ import annotations => x = 1

## names that begin with an underscore
_hidden = 3
def _helper(x): return x + _hidden
__all__ = ["public"]
def public(x): return _helper(x)
#: tests
assert public(1) == _helper(1) == 4 and _hidden == 3 and "public" in globals()

## shadowed builtins
def sum(xs):
    total = 1
    for x in xs: total *= x
    return total
list = "not a list"
#: tests
assert sum([2, 4]) == 8 and list == "not a list"

## constants and data
LIMIT = 10
PRIMES = [2, 3, 5]
TABLE = {"a": {"b": [1, 2]}}
#: tests
assert LIMIT == 10 and PRIMES[-1] == 5 and TABLE["a"]["b"][1] == 2
PRIMES.append(7)
assert len(PRIMES) == 4

## assert with walrus, starred and nested functions
def split(xs, *, at): return xs[:at], xs[at:]
#: tests
assert (parts := split([1, 2, 3], at=1)) == ([1], [2, 3]) and len(parts) == 2
head, (middle, *tail) = split([1, 2, 3], at=1)
def inner():
    assert split("ab", at=-1) == ("a", "b")
    return [split("abc", at=i)[0] for i in range(3)]
assert inner() == ["", "a", "ab"] and (head, middle, tail) == ([1], 2, [3])

## tests that define what the program uses
def area(shape): return shape.width * shape.height if isinstance(shape, Box) else None
#: tests
from dataclasses import dataclass
@dataclass
class Box:
    width: int
    height: int
assert area(Box(2, 3)) == 6 and area("box") is None

## a module made by the tests
def load():
    import plugin
    return plugin.value
#: tests
import sys, types
sys.modules["plugin"] = types.ModuleType("plugin")
sys.modules["plugin"].value = 8
assert load() == 8
#! import plugin => import plugins

## locals, globals and vars
def here(a, b=2): return sorted(locals().items())
class C:
    x = 1
    def __init__(self): self.y = 2
#: tests
assert here(1) == [("a", 1), ("b", 2)] and vars(C()) == {"y": 2} and "x" in vars(C) and callable(globals()["here"])

## deletion and rebinding
def f(): return 1
g = f
def f(): return 2
#: tests
assert (f(), g()) == (2, 1)
del f
try:
    f
except NameError:
    pass
else:
    assert False

## line ends of other systems
def lines(text): return text.split("\n")
value = """a
b"""
#: tests
assert lines("x\ny") == ["x", "y"] and value == "a\nb" and len("\r\n") == 2

## odd indentation and semicolons
if True:
        def f(x):
         y = x; y += 1; return y
#: tests
assert f(1) == 2; assert f(-1) == 0

## assertion in the program
def checked(x):
    assert x > 0, "x must be positive"
    return x
#: tests
assert checked(1) == 1
try:
    checked(-1)
except AssertionError as error:
    assert str(error) == "x must be positive"
else:
    raise SystemExit("no error")
#! assert x > 0 => assert x < 5
'''

FAILING = r'''
## not Python
def f(x) return x
#: tests
assert f(1) == 1

## bad indentation
def f(x):
    y = x
      return y
#: tests
assert True

## a name that is missing
def g(x): return x
#: tests
assert f(1) == 1

## a name used too early
value = later + 1
later = 1
#: tests
assert True

## a module that is missing
import module_that_nobody_has
def f(x): return x
#: tests
assert f(1) == 1

## too few arguments
def f(x, y): return x + y
#: tests
assert f(1) == 1

## returns nothing
def f(x): x + 1
#: tests
assert f(1) == 2

## leaves while loading
import sys
def f(x): return x
sys.exit(0)
#: tests
assert f(1) == 1

## leaves when called
def f(x): exit()
#: tests
assert f(1) == 1

## leaves when called, hard
import os
def f(x): os._exit(0)
#: tests
assert f(1) == 1

## leaves in the tests
def f(x): return x
#: tests
assert f(1) == 1
raise SystemExit

## is interrupted
def f(x): raise KeyboardInterrupt
#: tests
assert f(1) == 1

## raises its own exception
class Odd(Exception): pass
def f(x): raise Odd(x)
#: tests
assert f(1) == 1

## recurses without end
def f(x): return f(x + 1)
#: tests
assert f(1) == 1

## wrong type of exception
def f(x): raise KeyError(x)
#: tests
try:
    f(1)
except ValueError:
    pass

## changes a copy
def f(xs):
    xs = xs[:]
    xs.append(1)
#: tests
xs = []
f(xs)
assert xs == [1]

## equal only by chance of identity
def f(): return float("nan")
#: tests
assert f() == f()

## generator instead of a list
def f(n): return (i for i in range(n))
#: tests
assert f(3) == [0, 1, 2]

## tuple instead of a list
def f(n): return tuple(range(n))
#: tests
assert f(3) == [0, 1, 2]

## forgotten parentheses
class C:
    def size(self): return 3
#: tests
assert C().size == 3

## off by a rounding
def f(x): return x * 1.1
#: tests
assert f(3) == 3.3

## unhashable key
def f(xs): return {xs: 1}
#: tests
assert f([1]) == {}

## iterates over a number
def f(n): return [i for i in n]
#: tests
assert f(3) == [0, 1, 2]

## a generator that raises on the way
def f():
    yield 1
    raise RuntimeError("broke")
#: tests
assert list(f()) == [1]

## stop iteration inside a generator
def f():
    yield next(iter([]))
#: tests
assert list(f()) == []

## stop iteration is no end of all()
def f(x): raise StopIteration
#: tests
assert [f(i) for i in range(3)] == []

## tests that are not Python
def f(x): return x
#: tests
assert f(1) = 1

## tests that use a wrong name
def f(x): return x
#: tests
assert f(one) == 1

## runs out of memory
def f(n): return [0] * n
#: tests
assert len(f(10 ** 12)) == 10 ** 12

## deep recursion in C
def f(n):
    x = ()
    for _ in range(n): x = (x,)
    return x
#: tests
assert f(10 ** 5) == f(10 ** 5)

## coroutine that is not awaited
async def f(x): return x
#: tests
assert f(1) == 1

## only a docstring
def f(x):
    """Returns x."""
#: tests
assert f(0) == 0
'''

# Programs that bring their own tests, in one source.
IN_ONE_SOURCE = r"""
## asserts at the end
def f(x): return x * 2
assert f(2) == 4
assert f("a") == "aa"
#! x * 2 => x * 3

## test functions at the end
def f(xs): return sorted(xs)
def test_f():
    xs = [3, 1]
    assert f(xs) == [1, 3] and xs == [3, 1]
test_f()
#! sorted(xs) => xs.sort()

## asserts between definitions
def f(x): return x + 1
assert f(1) == 2
class A:
    def g(self): return f(1)
a = A()
assert a.g() == 2

## main guard with tests
def f(x): return x
def main():
    assert f(1) == 1
    print("ok")
if __name__ == "__main__":
    main()
assert f(2) == 2
#! return x => return 2

## no tests at all
print(sum(range(10)))
#! sum(range(10)) => sum(range("10"))
"""

_TEXTS = SUBCLASSES, OPERATORS, FUNCTIONS, IN_PLACE, SHARED, VALUES, LIBRARY, PRINTING, STYLES, FAILING, IN_ONE_SOURCE


def parse(text: str) -> dict[str, tuple[str, str]]:
    """(program, tests) by name; a wrong variant is named after its change."""
    found = {}
    for block in text.split("\n## ")[1:]:
        name, _, body = block.partition("\n")
        lines = body.splitlines()
        changes = [line.removeprefix("#! ").split(" => ") for line in lines if line.startswith("#! ")]
        body = "\n".join(line for line in lines if not line.startswith("#! "))
        program, _, tests = body.partition("\n#: tests\n")
        found[name] = (program, tests)
        for old, new in changes:
            found[f"{name}: {old} => {new}"] = (program.replace(old, new), tests)
    return found


HONEST = {name: pair for text in _TEXTS for name, pair in parse(text).items()}
