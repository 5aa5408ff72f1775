"""The kernel's calls that take rights away from a process, where Python 3.11 has no name for them.

Only the processes of one submission call these; Linux alone has them.
Source: capabilities(7), namespaces(7), seccomp(2), and the kernel's tables of system calls.
"""

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

from autograder.limits import Limits

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (1 << bit for bit in range(27, 31))
CLONE_ANY_NAMESPACE = (
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC
    | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)  # fmt: skip
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
MADV_HUGEPAGE, MADV_COLLAPSE, HUGE_PAGE = 14, 25, 2 << 20
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522

# What needs no capability and still reaches other processes, the kernel's own machinery, or memory
# that no limit counts. Numbers: x86_64, aarch64.
DENIED = {
    "ptrace": (101, 117),
    "pidfd_getfd": (438, 438),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "syslog": (103, 116),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
}
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
# A network namespace does not hold AF_VSOCK, through which a virtual machine reaches its host.
SOCKET_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, audit's name
X32 = 0x40000000  # x86_64's second table of calls starts here

_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def _call(name: str, *arguments: object) -> None:
    """Call the C library.

    Raises: OSError naming the function.
    """
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _call("prctl", option, *padded)


def unshare(flags: int) -> None:
    """Leave namespaces (CLONE_...); a new one for processes holds the next children only."""
    _call("unshare", flags)


def setns(descriptor: int, flags: int) -> None:
    """Return to a namespace."""
    _call("setns", descriptor, flags)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def hide_memory() -> None:
    """Let no process without rights over this one look into it."""
    _prctl(PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, 9)


def become_nobody(uid: int) -> None:
    """Take on an ordinary user, in a user namespace of its own, without a single capability.

    `uid` is who to be in the current namespace. The process cannot get any right back, however
    it starts a program.
    """
    if os.getuid() != uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(PR_SET_DUMPABLE, 1)  # its files in /proc are its own again, the maps below among them
    # Limits on the number of processes are counted in each user namespace by itself.
    unshare(CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"1000 {uid} 1"),
        ("gid_map", f"1000 {uid} 1"),
    ):
        Path("/proc/self", name).write_text(text)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        _prctl(PR_CAPBSET_DROP, capability)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    _call("capset", header, bytes(24))  # effective, permitted, inheritable: none
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def limit(limits: Limits, *, count_processes: bool) -> None:
    """Set the limits that the kernel keeps for a process and its children, for good.

    It counts processes by user: outside of a user namespace, all that the user runs.
    """
    import resource  # Windows has none, and imports this module

    # Should the host run out of memory all the same, the kernel ends this process first.
    Path("/proc/self/oom_score_adj").write_text("1000")
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    seconds = limits.cpu_seconds
    for kind, soft, hard in (
        (resource.RLIMIT_AS, mapped + limits.memory_bytes, None),
        (resource.RLIMIT_FSIZE, limits.file_bytes, None),
        (resource.RLIMIT_NOFILE, limits.open_files, None),
        *([(resource.RLIMIT_NPROC, limits.processes, None)] if count_processes else []),
        # At the soft limit comes SIGXCPU, at the hard one SIGKILL.
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_CORE, 0, None),
        (resource.RLIMIT_MSGQUEUE, 0, None),
        (resource.RLIMIT_MEMLOCK, 0, None),
    ):
        # An administrator may have set less already.
        allowed = [value for value in resource.getrlimit(kind) if value != resource.RLIM_INFINITY]
        hard = min([soft if hard is None else hard, *allowed[1:]])
        resource.setrlimit(kind, (min(soft, hard), hard))


def can_filter() -> bool:
    """Say whether `filter_calls` knows this machine."""
    return platform.machine() in MACHINES


def filter_calls() -> None:
    """Refuse the system calls of DENIED, new namespaces and foreign kinds of sockets, for good.

    Raises: OSError where the kernel has no filters.
    """
    column, audit = MACHINES[platform.machine()]
    refuse = (0x06, 0, 0, 0x00050000 | errno.EPERM)
    unknown = (0x06, 0, 0, 0x00050000 | errno.ENOSYS)
    allow = (0x06, 0, 0, 0x7FFF0000)

    def load(offset: int) -> tuple:
        return (0x20, 0, 0, offset)

    def unless(test: int, value: int) -> tuple:
        """Skip the next line where a test fails: equal 0x15, at least 0x35, any bit 0x45."""
        return (test, 0, 1, value)

    # struct seccomp_data: number at 0, architecture at 4, the first argument's low half at 16.
    program = [load(4), (0x15, 1, 0, audit), refuse, load(0), unless(0x35, X32), refuse]
    for numbers in DENIED.values():
        program += [unless(0x15, numbers[column]), refuse]
    # clone3 hides its flags behind a pointer; the C library falls back on clone.
    program += [unless(0x15, CLONE3[column]), unknown]
    program += [(0x15, 0, 3, CLONE[column]), load(16), unless(0x45, CLONE_ANY_NAMESPACE), refuse]
    program += [load(0), (0x15, 1, 0, SOCKET[column]), allow, load(16)]
    for family in SOCKET_FAMILIES.values():
        program += [unless(0x15, family), allow]
    program += [refuse]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(header)
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(buffer))


def use_huge_pages() -> None:
    """Gather this process's memory in huge pages, so that a fork of it copies a small table.

    Where the kernel cannot (before 6.1), a fork merely takes some 20 ms longer.
    """
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file]
    for span, rights, _, _, inode, *name in lines:
        if rights != "rw-p" or inode != "0" or (name and name[0] != "[heap]"):
            continue
        start, end = (int(part, 16) for part in span.split("-"))
        start = -(-start // HUGE_PAGE) * HUGE_PAGE
        length = (end - start) // HUGE_PAGE * HUGE_PAGE
        for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
            if length > 0:
                _libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
