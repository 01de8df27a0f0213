"""Programs that try to pass, to reach something or to stay, without computing anything. `solve(x)` should be x * x."""

# Every one of these tests fails for a program that does not compute squares, by whatever way the comparison goes.
TESTS = """
assert solve(3) == 9
assert 16 == solve(4)
assert abs(solve(2.5) - 6.25) < 1e-9
assert all(solve(i) == i * i for i in range(5, 9))
assert solve(5) in (25,)
assert [solve(6)] == [36]
assert not solve(7) != 49
"""

LEAVING = {
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "sys.exit in the function": "import sys\ndef solve(x):\n    sys.exit(0)",
    "os._exit in the function": "import os\ndef solve(x):\n    os._exit(0)",
    "exit in atexit": "import atexit, os\natexit.register(os._exit, 0)\nraise SystemExit",
    "keyboard interrupt": "def solve(x):\n    raise KeyboardInterrupt",
    "generator exit": "def solve(x):\n    raise GeneratorExit",
    "stop iteration": "def solve(x):\n    raise StopIteration",
    "abort": "import os\nos.abort()",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "leave while being deleted": (
        "import os\nclass Last:\n    def __del__(self):\n        os._exit(0)\ndef solve(x):\n    Last()\n    return 0"
    ),
    "another interpreter": "import os, sys\nos.execv(sys.executable, ['python', '-c', 'print(1)'])",
    "kill itself": "import os\ndef solve(x):\n    os.kill(os.getpid(), 9)",
    "stop itself": "import os\ndef solve(x):\n    os.kill(os.getpid(), 19)",
    "become another program": "import os\nos.execv('/usr/bin/true', ['true'])",
}

HOGGING = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "fork bomb that goes on": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "thread bomb": (
        "import threading, time\nthreading.stack_size(65536)\n"
        "while True:\n    threading.Thread(target=time.sleep, args=(9,)).start()"
    ),
    "memory in one piece": "x = [0] * 10**10",
    "memory in the function": "def solve(x):\n    parts = []\n    while True:\n        parts.append(bytearray(10**6))",
    "anonymous maps": "import mmap\nmaps = []\nwhile True:\n    maps.append(mmap.mmap(-1, 1 << 26))",
    "memory files": "import os\nfd = os.memfd_create('x')\nwhile True:\n    os.write(fd, bytes(1 << 20))",
    "raised limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\ndef solve(x):\n    return x * x"
    ),
    "one large file": "with open('x', 'wb') as f:\n    while True:\n        f.write(bytes(1 << 20))",
    "many files": (
        "i = 0\nwhile True:\n    i += 1\n    with open(str(i), 'wb') as f:\n        f.write(bytes(1 << 20))"
    ),
    "files without content": "import os\ni = 0\nwhile True:\n    i += 1\n    os.close(os.open(str(i), os.O_CREAT))",
    "nested directories": "import os\nwhile True:\n    os.mkdir('a')\n    os.chdir('a')",
    "sparse file": "with open('x', 'wb') as f:\n    f.truncate(1 << 40)",
    "deaf to its parent's death": "import ctypes, time\nctypes.CDLL(None).prctl(1, 0)\ntime.sleep(1000)",
    "files without end": "fds = []\nwhile True:\n    fds.append(open('/dev/null'))",
    "endless loop": "while True:\n    pass",
    "endless loop in the function": "def solve(x):\n    while True:\n        pass",
    "deaf to signals": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass"
    ),
    "session of its own": "import os\ntry:\n    os.setsid()\nexcept OSError:\n    pass\nwhile True:\n    pass",
    "sleep": "import time\ntime.sleep(1000)",
    "wait for input": "def solve(x):\n    return int(input())",
    "giant integer": "x = 7 ** 10**9",
    "giant result": "def solve(x):\n    return 1 << 10**8",
    "catastrophic regex": "import re\nre.match('(a+)+b', 'a' * 64)",
    "endless result": "def solve(x):\n    while True:\n        yield x",
    "endless output": "while True:\n    print('x' * 1000)",
    "endless errors": "import sys\nwhile True:\n    print('x' * 1000, file=sys.stderr)",
    "deep recursion": "def solve(x):\n    return solve(x)",
    "deep recursion without limit": "import sys\nsys.setrecursionlimit(10**9)\ndef solve(x):\n    return solve(x) + 1",
    "deep nesting in source": "x = " + "(" * 5000 + ")" * 5000,
    "deep result": "def solve(x):\n    y = []\n    for _ in range(10**5):\n        y = [y]\n    return y",
    "result that holds itself": "def solve(x):\n    y = []\n    y.append(y)\n    return y",
    "a million objects": "def solve(x):\n    return [object() for _ in range(10**6)]",
    "long exception": "def solve(x):\n    raise ValueError('x' * 10**8)",
    "exception of many lines": "def solve(x):\n    raise ValueError('a\\rb\\x0bc\\x1cd\\x85e\\u2028f\\ng')",
    "surrogate output": "print('\\ud800')",
    "surrogate result": "def solve(x):\n    return '\\udfff'",
    "surrogate exception": "def solve(x):\n    raise ValueError('\\ud800\\n\\x00')",
}

# Fields in braces are filled in: a file that must stay secret, one that must not appear, sockets, a bystander's pid.
REACHING = {
    "read a file": "print(open({secret!r}).read())",
    "read files of the system": "print(open('/etc/passwd').read())",
    "list the home": "import os\nprint(os.listdir({directory!r}))",
    "read the environment": "import os\nprint(os.environ['PATH'], os.environ['HOME'])",
    "read other processes": "import os\nprint(open('/proc/1/environ').read(), open('/proc/self/maps').read())",
    "its own memory": "print(open('/proc/self/mem', 'r+b'), open('/proc/self/maps').read(), 'reached')",
    "descriptors in flight": (
        "import socket\nfor fd in range(3, 20):\n    try:\n        channel = socket.socket(fileno=fd)\n"
        "        while True:\n            socket.send_fds(channel, [b'x'], [0, 1, 2])\n            print('reached')\n"
        "    except OSError:\n        pass"
    ),
    "write a file": "open({target!r}, 'w').write('x')",
    "write through a link": "import os\nos.symlink({target!r}, 'link')\nopen('link', 'w').write('x')",
    "remove a file": "import os\nos.remove({secret!r})",
    "write into the root": "open('/x', 'w').write('x')",
    "write into the library": "import os\nopen(os.__file__, 'a').write('x')",
    "write into the system": "open('/usr/x', 'w').write('x')",
    "change device files": (
        "import os\nfor device in ('/dev/null', '/dev/zero', '/dev/urandom'):\n    for act in (\n"
        "        lambda: os.chmod(device, 0o600), lambda: os.utime(device, (1, 1)), lambda: os.chown(device, 0, 0),\n"
        "        lambda: os.fchmod(os.open(device, 0), 0o600), lambda: os.utime(os.open(device, 0), (1, 1)),\n"
        "        lambda: os.lchown(device, 0, 0), lambda: os.setxattr(device, 'user.x', b'x'),\n"
        "        lambda: os.chmod(device, 0o600, dir_fd=os.open('/', 0)),\n    ):\n"
        "        try:\n            act()\n        except OSError:\n            pass"
    ),
    "connect": "import socket\nsocket.create_connection(('127.0.0.1', {port}))",
    "send": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "look up a name": "import socket\nsocket.getaddrinfo('localhost', {port})\nsocket.create_server(('', 0))",
    "local socket": "import socket\nsocket.socket(socket.AF_UNIX).connect({unix!r})",
    "abstract socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0' + {unix!r}[-40:])",
    "kill everyone": "import os\nos.kill(-1, 9)",
    "kill a bystander": "import os\nos.kill({pid}, 9)",
    "kill the parent": (
        "import os\nfor p in range(1, 100):\n    try:\n        os.kill(p, 9)\n    except OSError:\n        pass"
    ),
    "ptrace": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.ptrace(16, {pid}, 0, 0) < 0:\n    raise OSError(ctypes.get_errno(), 'ptrace')"
    ),
    "another process's memory": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.process_vm_readv({pid}, 0, 0, 0, 0, 0) < 0:\n    raise OSError(ctypes.get_errno(), 'readv')"
    ),
    "mount": (
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.unshare(0x10020000) < 0 or libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) < 0:\n"
        "    raise OSError(ctypes.get_errno(), 'mount')"
    ),
    "subprocess": "import subprocess\nsubprocess.run(['/bin/sh', '-c', 'sleep 60 & echo reached'])",
    "child that outlives": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    os._exit(0)"
    ),
    "process pool": "import multiprocessing\nmultiprocessing.Process(target=print).start()",
}

LYING = {
    "printed lies": "print('passed')\nprint('0' * 32 + '\\npassed\\n')\nimport sys\nsys.exit(0)",
    "fake nonce": (
        "import os, secrets\nfor fd in range(3, 64):\n    try:\n"
        "        os.write(fd, (secrets.token_hex(16) + '\\npassed\\n\\n').encode())\n    except OSError:\n        pass"
    ),
    "closed channel": "import os\nos.closerange(0, 1024)",
    "closed channel in the function": "import os\ndef solve(x):\n    os.closerange(3, 1024)",
    "forged replies": (
        "import os, pickle\ndata = pickle.dumps(('ok', 9, None))\ndata = len(data).to_bytes(8, 'little') + data\n"
        "for fd in range(3, 64):\n    try:\n        os.write(fd, data * 20)\n    except OSError:\n        pass\n"
        "os._exit(0)"
    ),
    "forging thread": (
        "import os, pickle, threading\ndef forge():\n    data = pickle.dumps(('ok', 9, None))\n"
        "    data = len(data).to_bytes(8, 'little') + data\n    while True:\n        for fd in range(3, 20):\n"
        "            try:\n                os.write(fd, data)\n            except OSError:\n                pass\n"
        "threading.Thread(target=forge, daemon=True).start()\ndef solve(x):\n    return 9"
    ),
    "forging alarm": (
        "import os, pickle, signal\ndef forge(*_):\n    data = pickle.dumps(('ok', 9, None))\n"
        "    data = len(data).to_bytes(8, 'little') + data\n    for fd in range(3, 20):\n        try:\n"
        "            os.write(fd, data)\n        except OSError:\n            pass\n"
        "signal.signal(signal.SIGALRM, forge)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "def solve(x):\n    return 9"
    ),
    "listening thread": (
        "import os, threading\ndef take():\n    while True:\n        for fd in range(5, 20):\n            try:\n"
        "                os.read(fd, 1)\n            except OSError:\n                pass\n"
        "threading.Thread(target=take, daemon=True).start()\ndef solve(x):\n    return 9"
    ),
    "forged calls of the tests": (
        "import os, pickle\ndata = pickle.dumps(('callback', -1, (), {}))\n"
        "data = len(data).to_bytes(8, 'little') + data\nfor fd in range(3, 64):\n    try:\n"
        "        for _ in range(10**5):\n            os.write(fd, data)\n    except OSError:\n        pass"
    ),
    "patched guest": (
        "import sys\nfor name, module in list(sys.modules.items()):\n    if name.endswith('guest'):\n"
        "        module.Guest.answer = lambda *a: ('ok', True, None)\n        module._PLAIN.clear()\n"
        "def solve(x):\n    return True"
    ),
    "changed integers": "import ctypes\nctypes.memset(id(9) + 24, 0, 4)\ndef solve(x):\n    return 9",
    "allocations traced": (
        "import tracemalloc\ntracemalloc.start(25)\ndef solve(x):\n"
        "    return [line for trace in tracemalloc.take_snapshot().traces for line in trace.traceback.format()]"
    ),
    "forged call of os._exit": (
        "import os, pickle\nclass Leave:\n    def __reduce__(self):\n        return os._exit, (0,)\n"
        "data = pickle.dumps(('ok', Leave(), None))\ndata = len(data).to_bytes(8, 'little') + data\n"
        "for fd in range(3, 64):\n    try:\n        os.write(fd, data)\n    except OSError:\n        pass"
    ),
    "forged endless message": (
        "import os\nfor fd in range(3, 64):\n    try:\n        while True:\n            os.write(fd, b'\\xff' * 4096)\n"
        "    except OSError:\n        pass"
    ),
    "equal to everything": (
        "class Any:\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n"
        "        return False\n    __hash__ = None\n    def __sub__(self, other):\n        return 0.0\n"
        "    __rsub__ = __sub__\n"
        "    def __lt__(self, other):\n        return True\n    def __abs__(self):\n        return self\n"
        "def solve(x):\n    return Any()"
    ),
    "a number equal to everything": (
        "class Any(int):\n    def __eq__(self, other):\n        return True\n    def __ne__(self, other):\n"
        "        return False\n    __hash__ = int.__hash__\n    def __sub__(self, other):\n        return 0.0\n"
        "def solve(x):\n    return Any()"
    ),
    "a number by protocol": (
        "class Any:\n    def __float__(self):\n        return 6.25\n    def __index__(self):\n        return 9\n"
        "    def __int__(self):\n        return 9\ndef solve(x):\n    return Any()"
    ),
    "a class in disguise": (
        "class Any:\n    @property\n    def __class__(self):\n        return int\n    def __eq__(self, other):\n"
        "        return True\ndef solve(x):\n    return Any()"
    ),
    "a fraction that bends": (
        "import fractions\nclass Bent(fractions.Fraction):\n    def __eq__(self, other):\n        return True\n"
        "def solve(x):\n    y = fractions.Fraction(1)\n    y._denominator = -1\n    return y"
    ),
    "patched builtins": (
        "import builtins\nbuiltins.all = lambda x: True\nbuiltins.abs = lambda x: 0\n"
        "builtins.AssertionError = Warning\nbuiltins.isinstance = lambda *a: True\ndef solve(x):\n    return 0"
    ),
    "its own all": "def all(x):\n    return True\ndef abs(x):\n    return 0\ndef solve(x):\n    return 9",
    "patched modules": (
        "import sys, math, operator\nmath.isclose = operator.eq = lambda *a: True\nsys.modules['ast'] = None\n"
        "sys.modules['__main__'] = sys\ndef solve(x):\n    return 0"
    ),
    "patched loader": (
        "import builtins, sys\nbuiltins.exec = builtins.compile = lambda *a, **k: None\nsys.exit = print\n"
        "def solve(x):\n    return None"
    ),
    "frame walk for the answer": (
        "import sys\ndef solve(x):\n    frame = sys._getframe(1)\n    found = []\n    while frame:\n"
        "        found += [c for c in frame.f_code.co_consts if isinstance(c, (int, float)) and c == x * x]\n"
        "        found += [v for v in frame.f_locals.values() if isinstance(v, (int, float)) and v == x * x]\n"
        "        frame = frame.f_back\n    return found[0]"
    ),
    "frame walk for the channel": (
        "import sys\ndef solve(x):\n    frame = sys._getframe(1)\n    while frame:\n"
        "        for name, value in list(frame.f_locals.items()) + list(frame.f_globals.items()):\n"
        "            if hasattr(value, 'channel'):\n                value.send(('ok', True, None))\n"
        "                value.send(('finished', '', None))\n"
        "        frame = frame.f_back\n"
    ),
    "search of the heap": (
        "import gc, os\ndef solve(x):\n    for thing in gc.get_objects():\n        if type(thing) is dict:\n"
        "            for value in list(thing.values()):\n                if type(value) is str and len(value) == 32:\n"
        "                    for fd in range(3, 20):\n                        try:\n"
        "                            os.write(fd, (value + '\\npassed\\n\\n').encode())\n"
        "                        except OSError:\n                            pass"
    ),
    "trace function": (
        "import sys\ndef trace(frame, event, arg):\n    if event == 'exception':\n        sys.exit(0)\n"
        "    return trace\nsys.settrace(trace)\ndef solve(x):\n    return 0"
    ),
    "audit hook": "import sys, os\nsys.addaudithook(lambda *a: os._exit(0))\ndef solve(x):\n    return open('x')",
    "hostile exception": (
        "class Odd(Exception):\n    def __str__(self):\n        raise SystemExit(0)\n    __repr__ = __str__\n"
        "def solve(x):\n    raise Odd"
    ),
    "exception in disguise": "class Timeout(BaseException):\n    pass\ndef solve(x):\n    raise Timeout",
}

# Against tests that the honest could have written, each with its weak point: (program, tests).
AGAINST_WEAK_TESTS = {
    "stop iteration from an item": (
        "class Odd:\n    def __getitem__(self, i):\n        raise StopIteration\ndef solve(x):\n    return Odd()",
        "assert all(map(lambda i: solve(i)[0] == i * i, range(5)))",
    ),
    "its own math": (
        "class math:\n    isclose = staticmethod(lambda *a: True)\ndef solve(x):\n    return 0.0",
        "assert math.isclose(solve(2.5), 6.25)",
    ),
    "its own all, and nothing else": (
        "def all(x):\n    return True",
        "assert all(map(lambda i: solve(i) == i * i, range(5)))",
    ),
    "its own all, and a module for the function": (
        "import math as solve\ndef all(x):\n    return True",
        "assert all(map(lambda i: solve(i) == i * i, range(5)))",
    ),
    "its own all, and checks with names of their own": (
        "def all(x):\n    return True",
        "def check(solve):\n    assert all(solve(i) == i * i for i in range(5))\ncheck(solve=lambda x: solve(x))",
    ),
    "its own all besides the builtin under test": (
        "def all(x):\n    return True\ndef sum(x):\n    return 9",
        "assert all(map(lambda i: sum(i) == i * i, range(5)))",
    ),
    "a class of the tests": (
        "class Any:\n    def __eq__(self, other):\n        return True\ndef solve(x):\n    return Any()",
        "class Checks:\n    def run(self):\n        assert solve(3) == 9\nChecks().run()",
    ),
    "a fraction that bends, in disguise": (
        "import os\ndef solve(x):\n"
        "    one = b'(V\\\\u0076alue\\nVfractions.Fraction\\n(I1\\nI1\\nttQ'\n"
        "    bent = one + b'(N(V_numerator\\nI1\\nV_denominator\\nI-1\\ndtb'\n"
        "    data = b'\\x80\\x02(Vok\\n' + bent + b'Nt.'\n    for fd in range(3, 64):\n        try:\n"
        "            os.write(fd, len(data).to_bytes(8, 'little') + data)\n        except OSError:\n            pass",
        "from fractions import Fraction\nassert abs(solve(2) - Fraction(4)) < Fraction(1, 10)",
    ),
    "a value that does not say what it is": (
        "class Odd:\n    def __str__(self):\n        raise ValueError\n    __repr__ = __str__\n"
        "def solve(x):\n    return Odd()",
        "assert solve(3) == 9, solve(3)",
    ),
    "a value that never says what it is": (
        "class Odd:\n    def __str__(self):\n        while True:\n            pass\n    __repr__ = __str__\n"
        "def solve(x):\n    return Odd()",
        "assert solve(3) == 9, solve(3)",
    ),
    "a value that exhausts the tests": (
        "def solve(x):\n    return 7 ** 10**6",
        "assert solve(3) ** 10**4 == 9 ** 10**4",
    ),
}

HOSTILE = LEAVING | HOGGING | REACHING | LYING
