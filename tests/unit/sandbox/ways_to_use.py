"""Programs whose tests use them in every way that tests do: a program, a line of dashes, its tests."""

HONEST = r"""
def f(x):
    x.append(3)
    return x
-----
l = [1]
assert f(l) == [1, 3]
assert l == [1, 3]
=====
def f(m):
    m[0][0] = 9
-----
row = [1]
f([row])
assert row == [9]
=====
def f(d):
    d['a'].add(2)
    d.pop('b')
-----
s = {1}
d = {'a': s, 'b': 1}
f(d)
assert d == {'a': {1, 2}} and s == {1, 2}
=====
def f(g, x):
    return g(g(x))
-----
assert f(lambda x: x * 2, 3) == 12
=====
def f(g):
    try:
        g()
    except KeyError as e:
        return str(e)
-----
def g():
    raise KeyError('k')
assert f(g) == "'k'"
=====
def f(n):
    for i in range(n):
        yield i
-----
assert list(f(3)) == [0, 1, 2]
assert 2 in f(9)
assert next(f(1)) == 0
=====
def f(xs):
    return sum(xs)
-----
assert f(x for x in [1, 2]) == 3
assert f(iter((1, 2))) == 3
=====
def f(x):
    if x < 0:
        raise ValueError('negative')
    return x
-----
try:
    f(-1)
    assert False
except ValueError as e:
    assert str(e) == 'negative'
=====
class Odd(LookupError):
    pass
def f():
    raise Odd('x')
-----
try:
    f()
    assert False
except LookupError:
    pass
=====
class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next
def last(node):
    while node.next:
        node = node.next
    return node.value
-----
a = Node(1)
a.next = Node(2, Node(3))
assert last(a) == 3
assert a.next.value == 2
assert isinstance(a, Node) and not isinstance(3, Node)
=====
def shift(p):
    return type(p)(p.x + 1)
-----
from dataclasses import dataclass
@dataclass
class P:
    x: int
assert shift(P(1)) == P(2) != P(1)
assert shift(P(1)).x == 2
=====
def first(node):
    return node.value
-----
class Node:
    def __init__(self, value, next=None):
        self.value, self.next = value, next
assert first(Node(7)) == 7
=====
class P:
    def __init__(self, x):
        self.x = x
    def __eq__(self, o):
        return self.x == o.x
    def __lt__(self, o):
        return self.x < o.x
    def __hash__(self):
        return self.x
    def __add__(self, o):
        return P(self.x + o.x)
    def __len__(self):
        return self.x
    def __getitem__(self, i):
        return i
-----
assert P(1) == P(1) != P(2) and P(1) < P(2)
assert (P(1) + P(2)).x == len(P(3)) == 3
assert P(1)[5] == 5 and len({P(1), P(1)}) == 1
=====
from collections import *
def f(x):
    return Counter(x), OrderedDict(a=1), deque(x), defaultdict(int, a=1)
-----
assert f('aab') == ({'a': 2, 'b': 1}, {'a': 1}, __import__('collections').deque('aab'), {'a': 1})
=====
from fractions import Fraction
from decimal import Decimal
import datetime
def f():
    return Fraction(1, 3), Decimal('1.5'), datetime.date(2020, 1, 2), 1j, range(3)
-----
from fractions import Fraction
from decimal import Decimal
import datetime
assert f() == (Fraction(1, 3), Decimal('1.5'), datetime.date(2020, 1, 2), 1j, range(3))
=====
from typing import NamedTuple
import enum
class T(NamedTuple):
    a: int
class E(enum.IntEnum):
    A = 3
def f():
    return T(1), E.A, True, None
-----
assert f() == ((1,), 3, True, None)
=====
import math
import math as m
def f(x):
    return math.sqrt(x)
-----
assert math.isclose(f(2) ** 2, 2) and m.pi > 3
=====
def f(x):
    return float('nan'), float('inf'), -0.0
-----
a, b, c = f(1)
assert a != a and b > 1e308 and str(c) == '-0.0'
=====
def f(x, *, k=1, **other):
    return x, k, other
-----
assert f(1, k=2, z=3) == (1, 2, {'z': 3})
=====
def sum(a, b):
    return a * b
-----
assert sum(2, 3) == 6
=====
import math
def sum(*numbers):
    return math.prod(numbers)
-----
def check(candidate):
    for numbers, expected in [((2, 3), 6), (range(1, 5), 24)]:
        assert math.isclose(candidate(*list(numbers)), expected)
check(sum)
=====
LIMIT = 5
def f():
    global LIMIT
    LIMIT += 1
-----
f()
assert LIMIT == 6
=====
def f():
    return [[1], (2, {3: {4}}), b'x', bytearray(b'y')]
-----
assert f() == [[1], (2, {3: {4}}), b'x', bytearray(b'y')]
=====
import contextlib
@contextlib.contextmanager
def f():
    yield 5
-----
with f() as x:
    assert x == 5
=====
def f(x):
    return lambda y: x + y
-----
assert f(1)(2) == 3
assert f.__name__ == 'f'
=====
import os, shutil, tempfile
def f(text):
    with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile('w+') as file:
        file.write(text)
        file.flush()
        os.chmod(file.name, 0o644)
        os.utime(file.name)
        for copy in (shutil.copyfile, shutil.copy, shutil.copy2):
            copy(file.name, os.path.join(directory, copy.__name__))
        shutil.copytree(directory, directory + '/all', ignore=shutil.ignore_patterns('all'))
        return [open(os.path.join(root, name)).read() for root, _, names in os.walk(directory) for name in names]
-----
assert f('abc') == ['abc'] * 6
=====
import threading
def f(x):
    out = []
    t = threading.Thread(target=lambda: out.append(x))
    t.start()
    t.join()
    return out
-----
assert f(1) == [1]
=====
class Node:
    def __init__(self):
        self.next = None
def ring():
    node = Node()
    node.next = node
    return node
-----
a = ring()
assert a.next is a and a.next is not ring()
=====
from datetime import datetime
def f(s):
    return datetime.strptime(s, '%Y').year
-----
assert f('2020') == datetime.strptime('2020', '%Y').year
=====
import datetime
def f(day):
    return day + datetime.timedelta(1)
-----
assert f(datetime.date(2020, 1, 1)) == datetime.date(2020, 1, 2)
=====
def f(x):
    return x + 1
-----
class Checks:
    def run(self):
        assert f(1) == 2
Checks().run()
""".strip().split("\n=====\n")
