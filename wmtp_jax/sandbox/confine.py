"""What a worker gives up inside its sandbox before anything that nobody trusts comes near it.

Imports nothing of this package: it is sent to the workers together with them.
"""

import ctypes
import os
import struct

_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 38, 22, 2
_CAPABILITY_VERSION_3 = 0x20080522


def confine(scratch: str, seccomp: bytes | None) -> None:
    """Bounds the files in the private directory, drops all capabilities and installs the filter of system calls.

    Args:
        scratch: mount options of the file system at /tmp.
        seccomp: the filter; None on a machine for which there is none.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # A setuid bubblewrap leaves no capability for this; then the size alone bounds the directory.
    libc.mount(b"tmpfs", b"/tmp", b"tmpfs", _MS_REMOUNT | _MS_NOSUID | _MS_NODEV, scratch.encode())
    header, none = struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")
    if seccomp:
        install(seccomp)


def install(seccomp: bytes) -> None:
    """Adds a filter; those that are there already stay."""
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(seccomp, len(seccomp))
    program = struct.pack("HxxxxxxQ", len(seccomp) // 8, ctypes.addressof(instructions))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def receive_bytes(descriptor: int, size: int) -> bytes:
    """Exactly so many bytes.

    Raises:
        EOFError: the other end has closed.
    """
    parts = []
    while size:
        part = os.read(descriptor, min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def receive_message(descriptor: int) -> bytes:
    """One message, as `send_message` writes it."""
    return receive_bytes(descriptor, int.from_bytes(receive_bytes(descriptor, 8), "little"))


def send_message(descriptor: int, data: bytes) -> None:
    """Writes the length in eight bytes, then the data."""
    rest = memoryview(len(data).to_bytes(8, "little") + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
