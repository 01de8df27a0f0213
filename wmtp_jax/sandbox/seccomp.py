"""The system calls that no sandboxed program gets, as a seccomp filter in classic BPF.

Namespaces already hide files, network and other processes. The filter denies what they leave: new processes (rlimits do
not bound a fork bomb when the runner is root), memory that no rlimit counts, other processes' memory, sockets of any
kind, sending descriptors (they are counted per user, so the runner would run out of them), changes of a file's mode,
owner, times, attributes and hints, locks on files of the host and watches of them, the machine's load, which pages of
files are in memory (it would tell one program what another has read), and the parts of the kernel through which
sandboxes have been escaped.
"""

import errno
import platform
import struct

# Number per system call on x86-64 and on aarch64; None where the architecture has no such call.
_DENIED = {
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438)},
    **{"socket": (41, 198), "sendmsg": (46, 211), "sendmmsg": (307, 269)},
    **{"memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196)},
    **{"msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    **{"unshare": (272, 97), "setns": (308, 268), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"mount": (165, 40), "umount2": (166, 39), "mount_setattr": (442, 442)},
    **{"open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432)},
    **{"open_by_handle_at": (304, 265), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)},
    **{"inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262), "sysinfo": (99, 179)},
    **{"io_setup": (206, 0), "io_submit": (209, 2), "mincore": (27, 232), "cachestat": (451, 451)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "personality": (135, 92)},
}
# These change a file's mode, owner, times or attributes, lock it, or take it out of memory. The device files and the
# installation are the host's own; the program could lock them, and change the devices where the runner is root. Nothing
# is done, and success is reported, so that programs which copy or lock their own files work.
_IGNORED = {
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
    **{"removexattrat": (466, 466), "file_setattr": (469, 469), "flock": (73, 32)},
    **{"fadvise64": (221, 223)},
}
# With the flag RWF_NOWAIT they read what is in memory alone; told that they do not exist, libc falls back on preadv and
# pwritev where there is no flag.
_MISSING = {"preadv2": (327, 286), "pwritev2": (328, 287)}
# fcntl: F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW, F_SETLEASE, F_NOTIFY, and F_(GET|SET)_(FILE_)RW_HINT.
_FCNTL, _IGNORED_COMMANDS = (72, 25), (6, 7, 37, 38, 1024, 1026, 1035, 1036, 1037, 1038)
_NEW_PROCESS = {"fork": (57, None), "vfork": (58, None)}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_CLONE_THREAD = 0x00010000

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_CALLS = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000


def seccomp_filter() -> bytes | None:
    """The filter of a sandbox, an array of `struct sock_filter`; None where system call numbers are not listed here."""
    n_commands = len(_IGNORED_COMMANDS)
    answers = dict.fromkeys(_DENIED.values(), errno.EPERM) | dict.fromkeys(_MISSING.values(), errno.ENOSYS)
    return _assemble(
        answers | dict.fromkeys(_IGNORED.values(), 0),
        [
            *((_EQUAL, 0, n_commands + 2, _FCNTL), (_LOAD, 0, 0, _SECOND_ARGUMENT)),
            *((_EQUAL, n_commands - i, 0, command) for i, command in enumerate(_IGNORED_COMMANDS[:-1], start=1)),
            *((_EQUAL, 0, 1, _IGNORED_COMMANDS[-1]), _answer(0)),
        ],
    )


def no_fork_filter() -> bytes | None:
    """What a program's own process adds: no other process, whereas threads are allowed."""
    return _assemble(
        dict.fromkeys(_NEW_PROCESS.values(), errno.EPERM),
        [
            # clone3 hides its flags behind a pointer; told that it does not exist, libc falls back on clone.
            *((_EQUAL, 0, 1, _CLONE3), _answer(errno.ENOSYS)),
            *((_EQUAL, 0, 3, _CLONE), (_LOAD, 0, 0, _FIRST_ARGUMENT)),
            *((_ANY_BIT, 1, 0, _CLONE_THREAD), _answer(errno.EPERM)),
        ],
    )


def _assemble(answers: dict[tuple, int], last: list[tuple]) -> bytes | None:
    """A filter that answers these calls itself and goes through `last` for the others."""
    if platform.machine() not in _ARCHITECTURES:
        return None
    column, architecture = _ARCHITECTURES[platform.machine()]
    program = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, _NUMBER), (_AT_LEAST, 0, 1, _X32_CALLS), _answer(errno.EPERM)]
    for numbers, answer in answers.items():
        if numbers[column] is not None:
            program += [(_EQUAL, 0, 1, numbers[column]), _answer(answer)]
    for code, yes, no, value in last:
        program.append((code, yes, no, value[column] if isinstance(value, tuple) else value))
    program.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _answer(number: int) -> tuple[int, int, int, int]:
    """The call is not made; the program gets this error, or success for 0."""
    return (_RETURN, 0, 0, _ERRNO | number)
