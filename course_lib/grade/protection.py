"""Isolate this process from the machine, before it runs a learner's code. This cannot be undone.

Time, memory and file sizes are limited with `setrlimit`. On Linux, Landlock (docs.kernel.org/userspace-api/
landlock.html) forbids all files but those named, and seccomp, through libseccomp, refuses system calls that
start processes, open sockets, signal other processes, or change permissions, times, names or the machine.
Neither needs privileges, and both hold for root. Elsewhere only the limits act.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MEMORY = 3 << 30  # bytes of address space, of which PyTorch maps 0.6 GB when it is imported
LARGEST_FILE = 64_000_000  # bytes; a model of the course as GGUF has 18 million
OPEN_FILES = 64  # at the same time

LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446  # system calls, the same on every processor
OLDEST_LANDLOCK = 3  # of Linux 6.2; older ones do not forbid to truncate a file
# Landlock's rights, one bit each; WRITE is to write, remove, make and truncate files.
READ, LIST, WRITE = 1 << 2, 1 << 3, 1 << 1 | 1 << 5 | 1 << 8 | 1 << 14
FILES_ONLY = 1 << 1 | 1 << 2 | 1 << 14  # the rights that a file can have
ALL_RIGHTS = (1 << 15) - 1  # those that version 3 of Landlock knows, all forbidden unless a rule allows them
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, SIGKILL = 1, 38, 9  # Linux's numbers, as in prctl(2) and signal(7)

# libseccomp's SCMP_ACT_ALLOW and SCMP_ACT_ERRNO; the number of an unknown system call.
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050000, -1
NOT_EQUAL, MASKED_EQUAL = 1, 7  # libseccomp's comparisons of an argument with a value
CLONE_THREAD = 0x10000  # the flag of the system call clone that makes a thread, not a process
# Names of the refused system calls.
REFUSED = """
    fork vfork execve execveat kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace process_vm_readv
    process_vm_writev setpriority setpgid setsid socket io_uring_setup io_uring_enter io_uring_register
    chmod fchmod fchmodat chown fchown lchown fchownat utime utimes futimesat utimensat setxattr lsetxattr
    fsetxattr removexattr lremovexattr fremovexattr open_by_handle_at mount umount2 pivot_root chroot
    unshare setns bpf perf_event_open userfaultfd add_key request_key keyctl kexec_load init_module
    finit_module delete_module reboot swapon swapoff sethostname setdomainname settimeofday clock_settime
    adjtimex clock_adjtime setrlimit shmget semget msgget mq_open memfd_create quotactl acct iopl ioperm
    """
NEWER = {  # unknown to older versions of libseccomp; since Linux 5.0 a number is the same everywhere
    **dict.fromkeys((424, 434, 438), "signals and memory of processes, by file descriptor"),
    **dict.fromkeys((425, 426, 427), "io_uring"),
    **dict.fromkeys((428, 429, 430, 431, 432, 433, 442), "mounts"),
    **dict.fromkeys((447, 452, 463, 466, 469), "memory without a file, permissions, attributes"),
}


class Comparison(ctypes.Structure):
    """libseccomp's scmp_arg_cmp: a condition on an argument of a system call."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def protect(readable: Iterable[tuple[str, bool]], writable: str, seconds: int) -> list[str]:
    """Limit this process, and return descriptions of what could not be forbidden; [] if all was.

    readable: what `readable_paths` returned. writable: a folder. seconds: the limit of processor time.
    """
    _limit(seconds)
    if sys.platform != "linux":
        return [f"files, processes and the network, for lack of Linux's means on {sys.platform}"]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)  # it never outlives the thread that started it
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    return [*_forbid_files(libc, readable, writable), *_forbid_calls()]


def _limit(seconds: int) -> None:
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # Windows
        return
    limits = {"CPU": seconds, "AS": MEMORY, "FSIZE": LARGEST_FILE, "NOFILE": OPEN_FILES, "CORE": 0}
    for name, most in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        # Linux tells by SIGXCPU that the time is used up, but only where the hard limit lies higher; at the
        # hard limit it sends SIGKILL, which could have had any reason.
        hardest = most + 1 if name == "CPU" else most
        if hard != resource.RLIM_INFINITY:
            most, hardest = min(most, hard), min(hardest, hard)
        try:
            resource.setrlimit(kind, (most, hardest))
        except (OSError, ValueError):  # macOS has no limit of the address space
            continue


def _forbid_files(libc: Any, readable: Iterable[tuple[str, bool]], writable: str) -> list[str]:
    """Forbid the use of all other files, with Landlock. Returns what could not be forbidden."""
    version = libc.syscall(LANDLOCK_CREATE, None, 0, 1)
    if version < OLDEST_LANDLOCK:
        return [
            f"files outside its folder, for lack of Landlock {OLDEST_LANDLOCK} (Linux 6.2); here {version}"
        ]
    ruleset = libc.syscall(LANDLOCK_CREATE, struct.pack("Q", ALL_RIGHTS), 8, 0)
    rules = [(path, LIST | READ if files else LIST) for path, files in readable]
    rules += [("/proc/self", LIST | READ), *((p, LIST | READ | WRITE) for p in (writable, os.devnull))]
    for path, rights in rules:
        if not os.path.exists(path):
            continue
        fd = os.open(path, getattr(os, "O_PATH", 0))
        allowed = rights if os.path.isdir(path) else rights & FILES_ONLY
        added = libc.syscall(LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", allowed, fd), 0)
        os.close(fd)
        if added:
            return [f"files: Landlock refuses {path}: {os.strerror(ctypes.get_errno())}"]
    failed = libc.syscall(LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return [f"files: Landlock fails: {os.strerror(ctypes.get_errno())}"] if failed else []


def _forbid_calls() -> list[str]:
    """Refuse the system calls in REFUSED and NEWER, with seccomp. Returns what could not be forbidden."""
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return ["processes and the network, for lack of libseccomp (sudo apt install libseccomp2)"]
    lib.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(lib.seccomp_init(ALLOW))
    refuse = REFUSE | errno.EPERM

    def rule(action: int, number: int, *conditions: Comparison) -> bool:
        array = (Comparison * len(conditions))(*conditions)
        return bool(lib.seccomp_rule_add_array(context, action, number, len(conditions), array))

    def number(name: str) -> int:
        return int(lib.seccomp_syscall_resolve_name(name.encode()))

    failed = [name for name in REFUSED.split() if number(name) != UNKNOWN and rule(refuse, number(name))]
    failed += [why for call, why in NEWER.items() if rule(refuse, call)]
    if rule(refuse, number("clone"), Comparison(0, MASKED_EQUAL, CLONE_THREAD, 0)):  # threads are allowed
        failed.append("clone")
    if rule(REFUSE | errno.ENOSYS, number("clone3")):  # then libc takes clone, whose flags can be looked at
        failed.append("clone3")
    if rule(refuse, number("prlimit64"), Comparison(2, NOT_EQUAL, 0, 0)):  # reading the limits is allowed
        failed.append("prlimit64")
    if lib.seccomp_load(context):
        failed.append("all of them")
    lib.seccomp_release(context)
    return [f"system calls: {', '.join(sorted(set(failed)))}"] if failed else []


def readable_paths(starts: Iterable[Path], hidden: Sequence[Path]) -> list[tuple[str, bool]]:
    """Return (path, whether its files can be read) for the paths in `starts`, without those in `hidden`.

    A folder that contains a hidden path can only be listed; its other contents get entries of their own.
    """
    entries: list[tuple[str, bool]] = []
    for path in (start.resolve() for start in starts if start.exists()):
        if any(path.is_relative_to(each) for each in hidden):
            continue
        inside = any(each.is_relative_to(path) for each in hidden)
        entries.append((str(path), not inside))
        entries += readable_paths(sorted(path.iterdir()), hidden) if inside else []
    return entries
