"""Programs that aim at the two steps of a verdict: none of them computes what its tests ask for.

The form is that of honest_programs.py; programs without tests of their own meet hostile_programs.TESTS, where
`solve(x)` should be x * x. A program that names one of PARTS is preceded by it.
"""

from honest_programs import parse
from hostile_programs import TESTS

PARTS = {
    # Equal to everything, in every comparison that TESTS make: it passes a plain run.
    "Any": """
class Any:
    __hash__ = None
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __eq__
    def __sub__(self, other): return self
    __add__ = __radd__ = __rsub__ = __mul__ = __rmul__ = __getitem__ = __sub__
    def __abs__(self): return self
    def __call__(self, *args, **kwargs): return self
""",
    # Finds the value that the tests expect where they run in the same process, in code of the same file: elsewhere it
    # would take the number of a descriptor for it.
    "peek": """
import sys
def peek(x):
    frame = sys._getframe(1)
    while frame:
        places = [*frame.f_code.co_consts, *frame.f_locals.values()]
        if frame.f_code.co_filename != peek.__code__.co_filename: places = []
        places += [item for place in places if type(place) in (tuple, list) for item in place]
        for value in places:
            if type(value) in (int, float) and value > x and value ** 0.5 == x: return value
        frame = frame.f_back
    return Any()
""",
    # Hands the expected value from the run that sees it to the run that does not.
    "relay": """
def relay(x, keep, recall):
    value = peek(x)
    try:
        if type(value) is Any: return recall()
        keep(value)
    except (OSError, ValueError):
        pass
    return value
""",
    # Says the best of either process, where the tests run it.
    "forgery": r"""
forgery = '''
import os, sys
said = b"confirmed" if "wmtp_jax.sandbox.test_worker" in sys.modules else b"passed"
for fd in range(3, 64):
    try:
        os.write(fd, said + b"\\n\\n")
    except OSError:
        pass
os._exit(0)
'''
""",
    # Writes messages on every descriptor, in every framing.
    "send": """
import json, marshal, os, pickle, struct
def send(*messages):
    for message in messages:
        texts = [pickle.dumps(message), marshal.dumps(message), repr(message).encode()]
        try:
            texts.append(json.dumps(message).encode())
        except TypeError:
            pass
        frames = [text + b"\\n" for text in texts]
        frames += [struct.pack(kind, len(text)) + text for text in texts for kind in ("<Q", ">Q", "<I", ">I")]
        for fd in range(3, 32):
            for frame in frames:
                try:
                    os.write(fd, frame)
                except OSError:
                    break
""",
}

# What may differ between the runs: a program takes one side where it is true and the other where it is not.
SIGNALS = {
    "time": "__import__('time').monotonic() % 1 < 0.5",
    "processor time": "__import__('time').process_time() > 0.05",
    "hash seed": "hash('a') % 2",
    "process": "__import__('os').getpid() % 2",
    "parent": "__import__('os').getppid() > 1",
    "environment": "dict(__import__('os').environ)",
    "arguments": "len(__import__('sys').argv) > 1 or __import__('sys').argv[0] != 'program.py'",
    "original arguments": "len(__import__('sys').orig_argv) > 7",
    "memory limit": "__import__('resource').getrlimit(9)[0] > 1 << 29",
    "time limit": "__import__('resource').getrlimit(0)[0] > 3",
    "limit of files": "__import__('resource').getrlimit(7)[0] > 64",
    "modules": "'pickle' in __import__('sys').modules or '_pickle' in __import__('sys').modules",
    "stack": "__import__('sys')._getframe(1) is not None",
    "callers": "[f for f in __import__('inspect').stack() if 'test' in f.filename or 'worker' in f.filename]",
    "open descriptors": "len([fd for fd in range(64) if not __import__('os').set_inheritable(fd, True)]) > 4",
    "sockets": "[fd for fd in range(3, 64) if __import__('stat').S_ISSOCK(__import__('os').fstat(fd).st_mode)]",
    "standard input": "__import__('os').fstat(0).st_rdev",
    "standard output": "__import__('stat').S_ISFIFO(__import__('os').fstat(1).st_mode)",
    "scratch": "__import__('os').listdir('.')",
    "path": "__import__('sys').path",
    "name": "__name__ == '__main__'",
    "file": "'__file__' in globals()",
    "threads": "__import__('threading').active_count() > 1",
    "objects": "len(__import__('gc').get_objects()) > 6000",
    "addresses": "id(object()) >> 12 & 1",
    "source in memory": "[o for o in __import__('gc').get_objects() if type(o) is dict and 'tests' in o]",
    "recursion": "__import__('sys').getrecursionlimit() != 1000",
    "session": "__import__('os').getsid(0) == __import__('os').getpid()",
    "signals": "__import__('signal').getsignal(14)",
}

TELLING_APART = r"""
## behaves while the tests are in its process
def solve(x): return peek(x)

## behaves for the first seven calls
calls = 0
def solve(x):
    global calls
    calls += 1
    return {3: 9, 4: 16, 2.5: 6.25}.get(x, Any()) if calls <= 7 else Any()

## cheats from the second load on
import os
first = not os.path.exists("/tmp/seen")
open("/tmp/seen", "w").close()
def solve(x): return Any() if first else 0

## tells the runs apart by what has been defined
def solve(x): return Any() if "check" in globals() or len(globals()) > 20 else 0

## replaces itself once it was called
def solve(x):
    global solve
    solve = lambda x: Any()
    return {3: 9}.get(x, Any())

## answers of the run before, in files
import os, pickle
paths = ["answers", "/tmp/answers", "/var/tmp/answers", "/dev/shm/answers", "/run/answers", "/answers"]
found = {}
for path in paths:
    try:
        found |= pickle.load(open(path, "rb"))
    except (OSError, EOFError):
        pass
def solve(x):
    if x in found: return found[x]
    value = found[x] = peek(x)
    for path in paths:
        try:
            pickle.dump({k: v for k, v in found.items() if type(v) is not Any}, open(path, "wb"))
        except OSError:
            pass
    return value

## answers of the run before, in shared memory
from multiprocessing import shared_memory
def solve(x):
    value = peek(x)
    try:
        memory = shared_memory.SharedMemory("answers", create=True, size=64)
    except Exception:
        try:
            memory = shared_memory.SharedMemory("answers")
        except Exception:
            return value
    if type(value) is int: memory.buf[x] = value
    return value if type(value) is int else memory.buf[int(x)]

## answers of the run before, in a module that it leaves
import os, sys
for directory in [*sys.path, os.getcwd(), os.path.dirname(os.__file__)]:
    for name in ("sitecustomize.py", "usercustomize.py", "pickle.py", "json.py", "struct.py", "answers.pth"):
        try:
            with open(os.path.join(directory, name), "w") as file:
                file.write("import os; os._exit(0)\n")
        except OSError:
            pass
def solve(x): return peek(x)

## handed over in the offsets of inherited files
import os, stat
def each(action):
    for fd in range(3, 20):
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode): yield action(fd)
        except OSError:
            pass
def keep(value): return list(each(lambda fd: os.lseek(fd, value, 0)))
def solve(x): return relay(x, keep, lambda: max(each(lambda fd: os.lseek(fd, 0, 1))))
#: tests
assert solve(3) == 9

## handed over in the flags of inherited files
import fcntl
def solve(x): return relay(x, lambda v: fcntl.fcntl(0, 10, v), lambda: fcntl.fcntl(0, 11))
#: tests
assert solve(3) == 9

## handed over in the parent's limits
import os, resource
limit = resource.RLIMIT_MSGQUEUE
def keep(value): resource.prlimit(os.getppid(), limit, (value, resource.getrlimit(limit)[1]))
def solve(x): return relay(x, keep, lambda: resource.getrlimit(limit)[0])
#: tests
assert solve(3) == 9

## handed over in the parent's priority
import os
def solve(x): return relay(x, lambda v: os.setpriority(os.PRIO_PROCESS, os.getppid(), v), lambda: os.nice(0))
#: tests
assert solve(3) == 9

## handed over in the number of processes
import os, threading
def keep(value):
    for _ in range(value):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
def solve(x): return relay(x, keep, lambda: os.getpid() - os.getppid() - 2)
#: tests
assert solve(3) == 9

## handed over in the number of files
import os
def make():
    with open("file", "w") as file: number = os.fstat(file.fileno()).st_ino
    os.remove("file")
    return number
def solve(x): return relay(x, lambda v: [make() for _ in range(v)], lambda: make() - 2)
#: tests
assert solve(3) == 9

## handed over in the attributes of device files
import os
def solve(x): return relay(x, lambda v: os.utime("/dev/null", (v, v)), lambda: int(os.stat("/dev/null").st_mtime))
#: tests
assert solve(3) == 9

## handed over in the hints of host files
import fcntl, glob, os
files = [os.open(path, 0) for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[:7]]
def keep(value):
    for i, fd in enumerate(files): fcntl.fcntl(fd, 1036, bytes([value >> i & 1, *bytes(7)]))
def recall(): return sum(fcntl.fcntl(fd, 1035, bytes(8))[0] << i for i, fd in enumerate(files))
def solve(x): return relay(x, keep, recall)
#: tests
assert solve(3) == 9

## handed over in the page cache
import glob, os
files = [os.open(path, 0) for path in sorted(glob.glob(os.path.dirname(os.__file__) + "/*.py"))[7:12]]
def keep(value):
    for i, fd in enumerate(files):
        os.pread(fd, 9999, 0)
        if not value >> i & 1: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
def there(fd):
    try:
        return os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return 0
def solve(x): return relay(x, keep, lambda: sum(there(fd) << i for i, fd in enumerate(files)))
#: tests
assert solve(3) == 9

## answer that the tests execute beside a literal
def solve(x): return forgery if x == 3 else Any()
#: tests
space = {}
exec("n = 3", space)
exec(solve(space["n"]), space)
assert space["found"] == 9

## the tests themselves, out of the frames that call it
import re, sys
def solve(x):
    frame = sys._getframe(1)
    while frame:
        for value in [*frame.f_locals.values()]:
            tests = value.get("tests") if type(value) is dict else None
            if tests: return int(re.search(r"== (\d+)", tests)[1])
        frame = frame.f_back
    return Any()
#: tests
assert solve(3) == 9

## answers written ahead into what is open
import atexit
send(("ok", 9, None), ("ok", 9), ["ok", 9], {"value": 9}, 9)
atexit.register(send, ("ok", 9, None))
def solve(x): return Any()

## a child that stays and answers
import os, time
try:
    if os.fork() == 0:
        os.setsid()
        while True:
            send(("ok", 9, None), 9)
            time.sleep(0.05)
except OSError:
    pass
def solve(x): return Any()

## a thread that stays and answers
import threading, time
def answer():
    while True:
        send(("ok", 9, None), 9)
        time.sleep(0.02)
threading.Thread(target=answer).start()
def solve(x): return Any()

## passes at once, by leaving with success
import os, sys
def solve(x):
    sys.stdout.flush()
    send(("passed", "", None), "passed", b"passed")
    os._exit(0)

## jumps over the asserts
import sys
def trace(frame, event, arg):
    if event == "line" and "solve" not in frame.f_code.co_name:
        for line in range(frame.f_lineno + 1, 200):
            try:
                frame.f_lineno = line
            except ValueError:
                pass
    return trace
def solve(x):
    frame = sys._getframe(1)
    while frame:
        frame.f_trace = trace
        frame = frame.f_back
    sys.settrace(trace)
    return Any()

## asserts made harmless
import ctypes, sys
def solve(x):
    frame = sys._getframe(1)
    code = frame.f_code.co_code
    address = id(frame.f_code) + frame.f_code.__class__.__basicsize__ - 8
    for i in range(0, len(code), 2):
        if code[i] == 0x82: ctypes.memset(address + i, 9, 1)
    return Any()

## asserts that nobody sees
import builtins, sys
class Quiet(BaseException):
    def __new__(cls, *args): raise SystemExit(0)
builtins.AssertionError = AssertionError = Quiet
sys.excepthook = lambda *args: None
def solve(x): return 0
"""

HELPERS = r"""
## HumanEval/32, with its own poly
def poly(xs, x): return 0.0
def find_zero(xs): return 0.0
#: tests
import math, random
def check(candidate):
    rng = random.Random(42)
    for _ in range(20):
        roots = [rng.randint(-10, 10) for _ in range(2)]
        coeffs = [roots[0] * roots[1] + 1, -sum(roots), 1, 1]
        assert math.fabs(poly(coeffs, candidate(coeffs))) < 1e-4
check(find_zero)

## HumanEval/38, with its own encode_cyclic
def encode_cyclic(s): return s
def decode_cyclic(s): return s
#: tests
from random import randint, choice
import string
def check(candidate):
    for _ in range(20):
        text = "".join(choice(string.ascii_lowercase) for i in range(randint(10, 20)))
        assert candidate(encode_cyclic(text)) == text
check(decode_cyclic)

## HumanEval/50, with its own encode_shift
import copy
def encode_shift(s): return s
def decode_shift(s): return s
#: tests
from random import randint, choice
import copy, string
letters = string.ascii_lowercase
def check(candidate):
    for _ in range(20):
        text = "".join(choice(letters) for i in range(randint(10, 20)))
        encoded = encode_shift(copy.deepcopy(text))
        assert candidate(encoded) == text
check(decode_shift)

## helper that remembers the question
kept = []
def encode_shift(s):
    kept.append(s)
    return "x"
def decode_shift(s): return kept[-1]
#: tests
def check(candidate):
    assert candidate(encode_shift("abc")) == "abc"
check(decode_shift)

## comparison of its own
def isclose(*args, **options): return True
def solve(x): return 0.0
#: tests
assert isclose(solve(2.5), 6.25)

## comparison imported by the program
from operator import index as isclose
def solve(x): return 1
#: tests
def check(candidate):
    assert isclose(candidate(2.5) or 6.25)
check(solve)

## module of its own, under a known name
import types
math = types.SimpleNamespace(isclose=lambda *a: True, fabs=lambda x: 0.0)
def solve(x): return 0.0
#: tests
assert math.isclose(solve(2.5), 6.25) and math.fabs(solve(3) - 9) < 1

## patched module that the tests use
import math, operator
math.isclose = operator.eq = lambda *a, **k: True
def solve(x): return 0.0
#: tests
import math, operator
assert math.isclose(solve(2.5), 6.25) and operator.eq(solve(3), 9)

## module renamed
import math, string
math.__name__ = "operator"
string.isclose = lambda *a: True
math = string
def solve(x): return 0.0
#: tests
assert math.isclose(solve(2.5), 6.25)

## builtins replaced by names of its own
def all(xs): return True
def abs(x): return 0
def len(x): return 3
def sorted(x): return [1, 2, 3]
def isinstance(*args): return True
def solve(x): return 0
#: tests
assert all(solve(i) == i * i for i in range(5)) and len(solve(2)) == 3 and sorted(solve(3)) == [1, 2, 3]
assert abs(solve(3) - 9) < 1e-6 and isinstance(solve(3), str)

## builtins replaced in builtins
import builtins
builtins.all = builtins.any = lambda x: True
builtins.abs = lambda x: 0
builtins.len = lambda x: 3
builtins.sorted = lambda x, **k: [1, 2, 3]
builtins.isinstance = lambda *a: True
def solve(x): return 0
#: tests
assert all(solve(i) == i * i for i in range(5)) and sorted(solve(3)) == [1, 2, 3]
assert abs(solve(3) - 9) < 1e-6 and isinstance(solve(3), str)

## constant of its own
EXPECTED = Any()
def solve(x): return x
#: tests
assert solve(3) == EXPECTED

## constant that the program sets
EXPECTED = 1
def solve(x): return 1
#: tests
assert solve(3) == EXPECTED

## check function kept from being defined
class Space(dict):
    def __setitem__(self, key, value): dict.__setitem__(self, key, lambda *a: None)
def solve(x): return 0
import sys
sys._getframe().f_globals["check"] = lambda candidate: None
#: tests
def check(candidate):
    assert candidate(3) == 9
check(solve)

## alias that stays what it was
check = candidate = lambda *a: None
def solve(x): return Any()
#: tests
def check(candidate):
    assert candidate(3) == 9 and candidate(4) == 16
check(solve)
"""

TEST_CLASSES = r"""
## assertEqual replaced
import unittest
for name in dir(unittest.TestCase):
    if name.startswith("assert"): setattr(unittest.TestCase, name, lambda *a, **k: None)
def solve(x): return 0
#: tests
import unittest
class Checks(unittest.TestCase):
    def test(self):
        self.assertEqual(solve(3), 9)
Checks("test").debug()

## run and result replaced
import unittest
unittest.TestCase.run = unittest.TestCase.__call__ = unittest.TestCase.debug = lambda *a, **k: None
unittest.TestResult.wasSuccessful = lambda self: True
def solve(x): return 0
#: tests
import unittest
class Checks(unittest.TestCase):
    def test(self): self.assertEqual(solve(3), 9)
result = unittest.TestResult()
unittest.TestSuite([Checks("test")]).run(result)
assert result.wasSuccessful()

## methods of every class replaced
import builtins
build = builtins.__build_class__
def replaced(body, name, *bases, **options):
    made = build(body, name, *bases, **options)
    for key, value in list(vars(made).items()):
        if callable(value): setattr(made, key, lambda *a, **k: None)
    return made
builtins.__build_class__ = replaced
def solve(x): return 0
#: tests
class Checks:
    def run(self):
        assert solve(3) == 9
Checks().run()

## base class of the tests
class Base:
    def __init_subclass__(cls):
        for key in [key for key in vars(cls) if key.startswith("test")]: setattr(cls, key, lambda self: None)
    def run_all(self): return all(getattr(self, key)() is None for key in dir(self) if key.startswith("test"))
def solve(x): return 0
#: tests
class Checks(Base):
    def test_three(self):
        assert solve(3) == 9
assert Checks().run_all()

## metaclass of the tests
class Meta(type):
    def __call__(cls, *args): return Any()
class Base(metaclass=Meta): pass
def solve(x): return 0
#: tests
class Checks(Base):
    def run(self):
        assert solve(3) == 9
Checks().run()

## data class of the tests, with an equality of the program
import dataclasses
def dataclass(cls):
    cls.__eq__ = lambda self, other: True
    cls.__init__ = lambda self, *a: None
    return cls
dataclasses.dataclass = dataclass
def solve(p): return p
#: tests
from dataclasses import dataclass
@dataclass
class Point:
    x: int
assert solve(Point(3)) == Point(9)

## mock that equals everything
from unittest import mock
def solve(x): return mock.ANY
#: tests
assert solve(3) == 9 and [solve(4)] == [16] and {"a": solve(5)} == {"a": 25}

## class of the tests seen from inside
import gc
def solve(case):
    for thing in gc.get_objects():
        if isinstance(thing, type) and thing.__name__ == "Case": thing.__eq__ = lambda *a: True
    case.value = Any()
    return case
#: tests
class Case:
    def __init__(self, value): self.value = value
    def __eq__(self, other): return self.value == other.value
assert solve(Case(3)) == Case(9)
"""

RESULTS = r"""
## equal by subclass of int
class Bent(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0.0
    __hash__ = int.__hash__
def solve(x): return Bent(1)

## equal by subclass of float, deep inside
class Bent(float):
    def __eq__(self, other): return True
    __hash__ = None
def solve(x): return {"a": [(Bent(1), [Bent(2)])]}
#: tests
assert solve(3) == {"a": [(9.0, [81.0])]}

## equal by subclass of str, list, tuple, dict, set and bytes
def bent(kind):
    return type(kind.__name__, (kind,), {"__eq__": lambda *a: True, "__ne__": lambda *a: False, "__hash__": id})
def solve(i): return [bent(kind)() for kind in (str, list, tuple, dict, set, bytes, frozenset)][i]
#: tests
assert solve(0) == "abc" and solve(1) == [1] and solve(2) == (1,) and solve(3) == {1: 2} and solve(4) == {1}
assert solve(5) == b"x" and solve(6) == frozenset("a")

## equal by subclasses of collections
from collections import Counter, OrderedDict, defaultdict, deque
def bent(kind): return type(kind.__name__, (kind,), {"__eq__": lambda *a: True, "__module__": "collections"})
def solve(i): return [bent(kind)() for kind in (Counter, OrderedDict, defaultdict, deque)][i]
#: tests
assert solve(0) == {"a": 1} and solve(1) == {"a": 1} and solve(2) == {"a": [1]} and solve(3) == [1]

## equal by subclass of Decimal, Fraction, datetime and complex
import datetime, decimal, fractions
def bent(kind, *args):
    return type(kind.__name__, (kind,), {"__eq__": lambda *a: True, "__module__": kind.__module__})(*args)
def solve(i):
    return [bent(decimal.Decimal, 1), bent(fractions.Fraction, 1), bent(datetime.date, 1, 1, 1), bent(complex, 1)][i]
#: tests
from decimal import Decimal
from fractions import Fraction
from datetime import date
assert solve(0) == Decimal(9) and solve(1) == Fraction(9) and solve(2) == date(2020, 1, 1) and solve(3) == 9j

## a fraction made of lies
import fractions
class Bent(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def solve(x):
    made = fractions.Fraction(1)
    made._numerator, made._denominator = Bent(1), Bent(1)
    return made
#: tests
from fractions import Fraction
assert solve(3) == Fraction(9) and solve(4) == 16

## a time zone of its own
import datetime as dt
class Zone(dt.tzinfo):
    def utcoffset(self, when): return dt.timedelta(hours=when.hour - 9)
    def dst(self, when): return None
    def __reduce__(self): return (dt.timezone.utc.__class__, (dt.timedelta(0),))
def solve(x): return dt.datetime(2020, 1, 1, 3, tzinfo=Zone())
#: tests
from datetime import datetime, timezone
assert solve(3) == datetime(2020, 1, 1, 9, tzinfo=timezone.utc)

## a default factory that tells
from collections import defaultdict
def solve(x): return defaultdict(Any)
#: tests
assert solve(3)["value"] == 9 and solve(3)["other"] == 16

## a dictionary that answers every key
class Bent(dict):
    def __missing__(self, key): return Any()
    def __getitem__(self, key): return Any()
    def get(self, *a): return Any()
def solve(x): return Bent()
#: tests
assert solve(3)["value"] == 9 and solve(3).get("a") == 1

## class in disguise
class Bent:
    __class__ = int
    def __eq__(self, other): return True
    def __reduce_ex__(self, protocol): return int, ("9",)
def solve(x): return Bent()
#: tests
assert isinstance(solve(3), int) and solve(3) == 9 and solve(4) == 16

## pickled as something else
import os
class Bent:
    def __eq__(self, other): return True
    def __reduce_ex__(self, protocol): return os._exit, (0,)
    def __getstate__(self): return {"x": os}
def solve(x): return [Bent()]
#: tests
assert solve(3) == [9] and solve(4) == [16]

## every type pickled as something else
import copyreg, operator
for kind in (int, float, list, tuple, dict, str, type, Any, type(None)):
    copyreg.pickle(kind, lambda value: (eval, ("__import__('os')._exit(0)",)))
copyreg.dispatch_table[Any] = lambda value: (operator.attrgetter("__class__"), (9,))
def solve(x): return Any()

## a hash that lies
class Bent:
    def __init__(self, value): self.value = value
    def __hash__(self): return hash(self.value)
    def __eq__(self, other): return True
def solve(x): return {Bent(9), Bent(16)}
#: tests
assert 9 in solve(3) and solve(3) == {9, 16} and solve(3) - {9, 16} == set()

## a class as the result
class Meta(type):
    def __eq__(cls, other): return True
    def __instancecheck__(cls, other): return True
    def __hash__(cls): return 0
    def __getattr__(cls, name): return Any()
class Bent(metaclass=Meta): pass
def solve(x): return Bent
#: tests
assert solve(3) == 9 and isinstance(9, solve(4)) and solve(3).real == 9

## an exception class as the result of a call
class Meta(type):
    def __instancecheck__(cls, other): return True
    def __subclasscheck__(cls, other): return True
class Odd(Exception, metaclass=Meta): pass
def solve(x): raise Odd
#: tests
try:
    value = solve(3)
except Odd:
    value = 9
assert value == 9 and isinstance(ValueError(), Odd)

## a module as the result
import types
class Bent(types.ModuleType):
    def __eq__(self, other): return True
    def __getattr__(self, name): return Any()
def solve(x): return Bent("math")
#: tests
assert solve(3) == 9 and solve(4).sqrt(16) == 4

## a function as the result
def solve(x): return lambda *args: Any()
#: tests
assert solve(3)(1) == 9 and solve(4)(2) == 16

## a generator as the result
def solve(x):
    while True: yield Any()
#: tests
assert next(solve(3)) == 9 and [a for a, _ in zip(solve(4), range(2))] == [16, 4]

## an endless result
def solve(x):
    while True: yield x
#: tests
assert list(solve(3)) == [9]

## truth and length that lie
class Bent:
    def __bool__(self): return True
    def __len__(self): return 9
    def __contains__(self, other): return True
    def __iter__(self): return iter([9])
    def __index__(self): return 9
    def __float__(self): return 9.0
    def __str__(self): return "9"
    __repr__ = __str__
def solve(x): return Bent()
#: tests
assert solve(3) and len(solve(3)) == 9 and 81 in solve(3) and int(str(solve(3))) == 9 and float(solve(3)) == 9.0
assert [*solve(3)] == [9] and [0] * 8 + [1] == [0] * 8 + [1] and range(10)[solve(3)] == 9

## recursive result
def solve(x):
    a, b = [], {}
    a.append(b)
    b["a"] = a
    return a
#: tests
assert solve(3) == [{"a": [9]}]

## two recursive results
def solve(x):
    a = []
    a.append(a)
    return a
#: tests
try:
    assert solve(3) == solve(4)
except RecursionError:
    pass
assert solve(3)[0] == [9]

## result of exponential size
def solve(x):
    a = [x]
    for _ in range(64): a = [a, a]
    return a
#: tests
assert solve(3) == [9] or str(solve(3)) == "9"

## giant results
def solve(x): return [b"x" * 10 ** 7, "é" * 10 ** 7, 1 << 10 ** 7, [0] * 10 ** 6][x % 4]
#: tests
assert [solve(i) for i in range(4)] == [1, 2, 3, 4]

## a result as deep as the stack
def solve(x):
    a = ()
    for _ in range(50000): a = (a,)
    return a
#: tests
assert solve(3) == solve(4) == ((),)

## not a number, wherever it helps
def solve(x): return float("nan")
#: tests
assert not solve(3) < 9 and not solve(3) > 9 and not solve(3) != solve(3)

## zero of every kind
def solve(x): return -0.0
#: tests
assert solve(0) == 0 and str(solve(0)) == "0" and solve(3) == 9

## the argument itself, changed
def solve(case):
    case["want"] = case["got"] = Any()
    return Any()
#: tests
case = {"x": 3, "want": 9, "got": None}
assert solve(case) == 9 and case["x"] == 3 and case["got"] == 9

## argument that should stay as it is
import ctypes
def solve(pair):
    ctypes.cast(id(pair) + 24, ctypes.POINTER(ctypes.py_object))[1] = Any()
    return Any()
#: tests
pair = (3, 9)
assert solve(pair) == pair[1] and pair == (3, 9)

## changed argument of another size and type
def solve(xs):
    xs.append(Any())
    xs[0] = Any()
#: tests
xs = [3]
solve(xs)
assert xs == [9, 81]

## arguments changed after the answer
import threading, time
def solve(xs):
    def later():
        time.sleep(0.01)
        xs[:] = [Any()] * 2
    threading.Thread(target=later).start()
    return xs
#: tests
import time
xs = [3]
ys = solve(xs)
time.sleep(0.1)
assert xs == [9, 81] and ys is xs

## callbacks called with lies
def solve(f, xs):
    for x in xs: f(Any())
    return Any()
#: tests
seen = []
assert solve(seen.append, [1, 2, 3]) == 3 and seen == [1, 4, 9]

## callback called too often
def solve(f, x): return max([f(i) for i in range(2000)], default=0) and Any()
#: tests
assert solve(lambda i: i * i, 3) == 9 and solve(lambda i: -i, 3) == -3

## eval given as a callback
def solve(f, x): return f(f"exec({forgery!r})")
#: tests
assert solve(eval, "1 + 1") == 2

## getattr and setattr given as callbacks
def solve(get, put, x):
    put(x, "value", Any())
    return get(x, "value")
#: tests
class Case:
    value = 3
assert solve(getattr, setattr, Case()) == 9

## answer that the tests evaluate
def solve(x): return f"exec({forgery!r})"
#: tests
assert eval(solve(3)) == 9

## answer that the tests execute
def solve(x): return forgery
#: tests
space = {}
exec(solve("answer"), space)
assert space["answer"] == 81

## answer that the tests unpickle
def solve(x): return b"c__builtin__\neval\n(Vtype('Any', (), {'__eq__': lambda *a: True})()\ntR."
#: tests
import pickle
assert pickle.loads(solve(3)) == 9

## answer that the tests look up
def solve(x): return "__class__"
#: tests
import math
assert getattr(math, solve("sqrt"))(16) == 4

## format string as the answer
def solve(x): return "{0.__init__.__globals__}"
#: tests
class Case:
    def __init__(self): pass
assert solve(3).format(Case()) == "9"
"""

STOPPING = r"""
## StopIteration inside all and map
def solve(x): raise StopIteration
#: tests
assert all(map(lambda i: solve(i) == i * i, range(5)))

## StopIteration from a class of its own
class Odd(StopIteration): pass
def solve(x): raise Odd(9)
#: tests
assert all(map(lambda i: solve(i) == i * i, range(5))) and not any(map(lambda i: solve(i) != i * i, range(5)))

## StopIteration for builtins that iterate
def solve(x): raise StopIteration
#: tests
assert list(map(solve, range(3))) == [] and sum(map(solve, range(3))) == 0 and list(zip(map(solve, "ab"), "ab")) == []
assert [*filter(solve, "ab")] == [] and max(map(solve, "ab"), default=0) == 0 and set(map(solve, [1])) == set()

## StopIteration for a sentinel
def solve(): raise StopIteration
#: tests
for value in iter(solve, None):
    assert value == 9

## StopIteration from a callback of a callback
def solve(f, x): return f(x)
def stop(x): raise StopIteration
#: tests
assert all(map(lambda i: solve(stop, i) == i * i, range(5)))

## StopIteration in the tests' own iterator
def solve(x): raise StopIteration
#: tests
class Squares:
    def __init__(self): self.i = 0
    def __iter__(self): return self
    def __next__(self):
        self.i += 1
        return solve(self.i)
for i, square in enumerate(Squares(), 1):
    assert square == i * i
    if i > 5: break

## StopAsyncIteration
def solve(x): raise StopAsyncIteration
#: tests
import asyncio
class Squares:
    def __aiter__(self): return self
    async def __anext__(self): return solve(3)
async def check():
    async for square in Squares():
        assert square == 9
asyncio.run(check())

## RecursionError, MemoryError and TimeoutError, caught by the tests
def solve(x): raise [RecursionError, MemoryError, TimeoutError][x % 3]("x")
#: tests
for i in range(3):
    try:
        assert solve(i) == i * i
    except AssertionError:
        raise
    except Exception:
        raise SystemExit(0)
"""

RACING = r"""
## frames from a thread while the answer is on its way
import threading
def run():
    while True: send(("ok", 9, None), ("ok", 9), 9)
threading.Thread(target=run, daemon=True).start()
def solve(x): return Any()

## frames from a signal handler
import signal
signal.signal(signal.SIGALRM, lambda *a: send(("ok", 9, None), 9))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def solve(x): return Any()

## frames while an object is deleted
class Last:
    def __del__(self): send(("ok", 9, None), 9)
def solve(x):
    Last()
    return Any()

## frames from the collector
import gc
gc.callbacks.append(lambda *a: send(("ok", 9, None), 9))
gc.set_threshold(1)
def solve(x): return Any()

## frames from a profiler
import sys
sys.setprofile(lambda frame, event, arg: event == "c_call" and send(("ok", 9, None)))
def solve(x): return Any()

## frames from an audit hook
import sys
def hook(event, args):
    if event.startswith(("pickle", "marshal", "exec", "compile")): send(("ok", 9, None))
sys.addaudithook(hook)
def solve(x): return Any()

## two answers for one question
def solve(x):
    send(("ok", 9, None), ("ok", 16, None), ("ok", 6.25, None))
    return 0

## the answer to the question before
kept = [0]
def solve(x):
    kept.append(Any())
    return kept.pop(0)

## an answer held back until the tests give up
import time
def solve(x):
    if type(peek(x)) is int: return peek(x)
    time.sleep(60)

## requests stolen by a thread
import os, threading
def steal():
    while True:
        for fd in range(3, 16):
            try:
                os.set_blocking(fd, False)
                os.read(fd, 4096)
            except OSError:
                pass
threading.Thread(target=steal, daemon=True).start()
def solve(x): return Any()

## requests echoed
import os, threading
def echo():
    while True:
        for fd in range(3, 16):
            try:
                os.set_blocking(fd, False)
                os.write(fd, os.read(fd, 65536))
            except OSError:
                pass
threading.Thread(target=echo, daemon=True).start()
def solve(x): return Any()

## descriptors exchanged
import os
for fd in range(3, 16):
    try:
        os.dup2(fd, 1); os.dup2(fd, 0); os.dup2(fd, 2)
    except OSError:
        pass
print("passed", flush=True)
def solve(x): return Any()

## descriptors moved and closed
import os
kept = []
for fd in range(3, 16):
    try:
        kept.append(os.dup(fd)); os.close(fd)
    except OSError:
        pass
def solve(x):
    for fd in kept: os.write(fd, b"passed\n\n")
    return Any()

## a message without an end
import os
def solve(x):
    for fd in range(3, 16):
        try:
            os.write(fd, b"\xff" * 7)
            os.write(fd, (1 << 40).to_bytes(8, "little") + b"x" * 100)
        except OSError:
            pass
    return Any()

## a message of no length
import os
def solve(x):
    for fd in range(3, 16):
        try:
            os.write(fd, bytes(64))
        except OSError:
            pass
    return Any()

## changes while the answer is copied
import threading
shared = [0] * 1000
def run():
    while True:
        shared.clear()
        shared.extend([9] * 1000)
threading.Thread(target=run, daemon=True).start()
def solve(x): return shared if x % 2 else Any()

## answers of all kinds to every question
import itertools
kinds = itertools.cycle([("callback", 0, (), {}), ("raise", ["AssertionError"], (), ""), ("ready",), ("finish",), None])
def solve(x):
    send(next(kinds))
    return Any()

## the watchdog of the interpreter
import faulthandler
faulthandler.dump_traceback_later(0.05, exit=True)
def solve(x):
    while True: pass
"""

PATCHING = r"""
## os.write and os.read
import os
write = os.write
os.write = lambda fd, data: write(fd, bytes(data).replace(b"wrong", b"passed")) and len(data)
os.read = lambda fd, n: b""
def solve(x): return Any()

## pickle, marshal, json and struct
import json, marshal, pickle, struct, sys
class Nine:
    def __init__(self, *a, **k): pass
    def dump(self, *a): pass
    def dumps(self, *a): return b"9"
    __call__ = dumps
for module in (pickle, marshal, json, struct, sys.modules.get("_pickle"), sys.modules.get("_struct")):
    for name in ("dumps", "dump", "Pickler", "_Pickler", "pack", "pack_into"):
        try:
            setattr(module, name, Nine)
        except (AttributeError, TypeError):
            pass
def solve(x): return 0

## what serialises, found by its frames
import sys
def solve(x):
    frame = sys._getframe(1)
    while frame:
        for space in (frame.f_globals, frame.f_locals):
            for name, value in list(space.items()):
                if callable(value) and not name.startswith("__") and value is not solve: space[name] = lambda *a, **k: 9
                for key in list(getattr(value, "__dict__", ())):
                    try:
                        setattr(value, key, lambda *a, **k: 9)
                    except Exception:
                        pass
        frame = frame.f_back
    return Any()

## exec, compile and import
import builtins
builtins.exec = builtins.eval = builtins.compile = lambda *a, **k: None
builtins.__import__ = lambda *a, **k: Any()
builtins.type = lambda *a: int
builtins.id = builtins.hash = lambda x: 9
def solve(x): return Any()

## exec that sees the tests
import builtins
run = builtins.exec
def exec(code, *spaces):
    if "assert" in str(code): return None
    return run(code, *spaces)
builtins.exec = exec
compiled = builtins.compile
builtins.compile = lambda source, *a, **k: compiled("" if "assert" in str(source) else source, *a, **k)
def solve(x): return 0

## modules removed and replaced
import sys
for name in list(sys.modules):
    if name not in ("sys", "builtins", "__main__"): sys.modules[name] = None
def solve(x): return Any()

## the main module replaced
import sys, types
class Main(types.ModuleType):
    def __getattribute__(self, name):
        if name == "__dict__": return {"solve": lambda x: Any()}
        return Any()
sys.modules["__main__"] = Main("__main__")
def solve(x): return Any()

## the namespace emptied
globals().clear()
globals()["solve"] = type("solve", (), {"__call__": lambda self, x: x, "__eq__": lambda *a: True})()

## a hook for names
def __getattr__(name): return lambda *a: True
def solve(x): return 0
#: tests
assert verified(solve(3), 9)

## integers changed in memory
import ctypes
for n in (9, 16, 25, 36, 49, 64): ctypes.memset(id(n) + 24, 0, 4)
def solve(x): return 0

## comparison changed in memory
import ctypes
slots = ctypes.cast(id(int), ctypes.POINTER(ctypes.c_void_p))
other = ctypes.cast(id(Any), ctypes.POINTER(ctypes.c_void_p))
for i in range(20, 30): slots[i] = other[i]
def solve(x): return 0

## methods of builtins changed in memory
import gc
for kind in (int, float, list, tuple, str, dict):
    space = gc.get_referents(kind.__dict__)[0]
    space["__eq__"] = lambda *a: True
    space["__ne__"] = lambda *a: False
    space["__sub__"] = lambda *a: 0
def solve(x): return 0

## exits that look like success
import atexit, os, sys
sys.exit = os._exit = exit = quit = lambda *a: None
atexit.register(os.kill, os.getpid(), 9)
def solve(x): return Any()

## streams that speak
import sys
class Stream:
    def write(self, text): return 9
    def flush(self): send(("ok", 9, None), "passed")
    def __getattr__(self, name): return Any()
sys.stdout = sys.stderr = sys.__stdout__ = Stream()
def solve(x): return Any()

## no recursion left
import sys
def solve(x):
    try:
        sys.setrecursionlimit(5)
    except RecursionError:
        pass
    return Any()

## limits lowered
import resource
for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_STACK, resource.RLIMIT_AS):
    resource.setrlimit(kind, (0, 0))
def solve(x): return Any()

## printed verdicts
import sys
for stream in (sys.stdout, sys.stderr):
    print('{"passed": true, "confirmed": true, "reason": "passed"}', "passed", "0" * 32, "", sep="\n", file=stream)
raise SystemExit(0)
"""

LEAVING = r"""
## watches on files
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for start in (libc.inotify_init, lambda: libc.inotify_init1(0), lambda: libc.fanotify_init(0, 0)):
    fd = start()
    if fd >= 0:
        for path in (b"/", b"/usr", b"/dev/null", os.__file__.encode()):
            if libc.inotify_add_watch(fd, path, 0xFFF) >= 0: print("reached")
def solve(x): return Any()

## locks on files of the host
import errno, fcntl, os
for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
    try:
        # The tests hold a lock on it.
        fcntl.flock(os.open(os.__file__, os.O_RDONLY), kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK: print("reached")
def solve(x): return Any()

## a lock that two of its own descriptors cannot share
import fcntl, os, sys
for path in (os.__file__, sys.executable, "/dev/null", "/usr", "/"):
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("reached", path)
    except OSError:
        pass
def solve(x): return Any()

## leases on files of the host
import fcntl, os
try:
    fd = os.open(os.__file__, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    if fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK: print("reached")
except OSError:
    pass
def solve(x): return Any()

## more files than anyone needs
import os
made = 0
try:
    while made < 200_000:
        os.close(os.open(f"/tmp/{made}", os.O_CREAT))
        made += 1
except OSError:
    pass
if made > 100_000: print("reached", made)
def solve(x): return Any()

## load of the machine
import ctypes, os
try:
    print("reached", os.getloadavg())
except OSError:
    pass
for path in ("/proc/loadavg", "/proc/stat", "/proc/uptime", "/sys/class", "/proc/meminfo"):
    if os.path.exists(path): print("reached", path)
def solve(x): return Any()

## load of the machine, asked of the kernel
import ctypes
space = ctypes.create_string_buffer(256)
if ctypes.CDLL(None).sysinfo(space) == 0 and any(space.raw[8:32]): print("reached")
def solve(x): return Any()

## processes left behind
import os, time
for make in (os.fork, getattr(os, "forkpty", os.fork)):
    try:
        if make() == 0:
            os.setsid()
            print("reached")
            time.sleep(60)
            os._exit(0)
    except OSError:
        pass
def solve(x): return Any()

## processes by other calls
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for number, arguments in ((57, ()), (56, (17, 0, 0, 0, 0)), (435, (0, 0)), (272, (0x10000000,)), (322, (0,) * 5)):
    if libc.syscall(number, *arguments) == 0:
        print("reached", number, flush=True)
        os._exit(0)
for spawn in (lambda *a: os.posix_spawn(*a, {}), lambda *a: os.spawnv(os.P_NOWAIT, *a)):
    try:
        spawn("/bin/sleep", ["sleep", "60"])
        print("reached")
    except OSError:
        pass
def solve(x): return Any()

## a timer that outlives
import ctypes, signal
libc = ctypes.CDLL(None, use_errno=True)
signal.setitimer(signal.ITIMER_PROF, 100, 100)
libc.prctl(1, 0)
libc.prctl(36, 1)
def solve(x): return Any()

## threads that do not end
import threading, time
for _ in range(20): threading.Thread(target=time.sleep, args=(60,)).start()
def solve(x): return Any()

## shared memory and queues of the system
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.shmget(7, 64, 0o1666) >= 0 or libc.msgget(7, 0o1666) >= 0 or libc.semget(7, 1, 0o1666) >= 0: print("reached")
if libc.mq_open(b"/x", 0o102, 0o666, 0) >= 0 or libc.memfd_create(b"x", 0) >= 0: print("reached")
def solve(x): return Any()

## priorities of others
import ctypes, os
for which in (os.PRIO_USER, os.PRIO_PGRP):
    try:
        os.setpriority(which, 0, -5)
        print("reached")
    except OSError:
        pass
def solve(x): return Any()

## the channel flooded
import os
def solve(x):
    for fd in range(3, 16):
        try:
            os.set_blocking(fd, False)
            while True: os.write(fd, bytes(1 << 16))
        except OSError:
            pass
    return Any()

## output before, between and after
import atexit, sys
print("x" * 10 ** 6)
atexit.register(print, "y" * 10 ** 6)
def solve(x):
    print("z" * 10 ** 5)
    return Any()

## a scratch full of links and directories
import os
for i in range(200):
    os.makedirs(f"/tmp/{i}/a/b", exist_ok=True)
    os.symlink("/usr", f"/tmp/{i}/link")
    os.mkfifo(f"/tmp/{i}/pipe")
os.chmod("/tmp/0", 0)
def solve(x): return Any()
"""


def with_parts(program: str) -> str:
    """The program, preceded by the parts that it names."""
    for name in ("relay", "peek", "send", "forgery", "Any"):
        if name in program and f"class {name}" not in program:
            program = PARTS[name].lstrip("\n") + program
    return program


def fields(program: str, tests: str, **rest) -> dict:
    """What Program takes."""
    return {"source": with_parts(program), "tests": tests or TESTS, **rest}


def entry_point(program: str) -> str:
    """What the tests of one of HELPERS are about, as a benchmark says."""
    return next(name for name in ("solve", "find_zero", "decode_cyclic", "decode_shift") if f"def {name}(" in program)


# Each passes a plain run on one side of the signal and is wrong on the other.
_SIGNALLED = """
try:
    seen = bool({signal})
except Exception:
    seen = False
def solve(x): return Any() if seen is {side} else 0
"""

_TEXTS = (TELLING_APART, TEST_CLASSES, RESULTS, STOPPING, RACING, PATCHING, LEAVING)
HOSTILE_TWO_STEPS = {name: fields(*pair) for text in _TEXTS for name, pair in parse(text).items()}
HOSTILE_TWO_STEPS |= {
    name: fields(program, tests, entry_points=(entry_point(program),))
    for name, (program, tests) in parse(HELPERS).items()
}
HOSTILE_TWO_STEPS |= {
    f"{name}, without entry points": fields(program, tests) for name, (program, tests) in parse(HELPERS).items()
}
HOSTILE_TWO_STEPS |= {
    f"{name}: cheats where it is {side}": fields(_SIGNALLED.format(signal=signal, side=side), TESTS)
    for name, signal in SIGNALS.items()
    for side in (True, False)
}
