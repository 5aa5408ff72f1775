"""Where submissions run: threads that own a sandbox each, or the workers of a Dask cluster.

Both are `concurrent.futures` executors of one function, so the coordinator does not care. A worker
gets a notebook and the assignment's files and gives an executed notebook back: it needs no disk in
common with the coordinator, and never sees the gradebook.
"""

import math
import sys
import tempfile
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

import autograder
from autograder.errors import GradingError
from autograder.judge.interface import Interface
from autograder.sandbox import Execution, Limits, Sandbox

ENGINE_RUNS = sys.platform == "linux"

# A task whose worker was lost goes to another one this many times.
CLUSTER_RETRIES = 5
_own = threading.local()
_every: list[Sandbox] = []


@dataclass(frozen=True)
class Job:
    """What a worker needs of one submission: plain text and bytes."""

    student: str
    notebooks: dict[str, str]  # name: the sanitised notebook as JSON
    files: dict[str, bytes]  # what stands beside them
    limits: Limits
    isolate: bool
    interfaces: dict[str, Interface]  # name: what its checks may reach
    own: tuple[str, ...]  # the files that are the course's
    imports: tuple[str, ...] = ()  # statements of set-ups and checks
    version: str = autograder.__version__


@dataclass(frozen=True)
class Done:
    """What a worker gives back: executed notebooks, and what their execution was like."""

    notebooks: dict[str, str]
    record: dict[str, dict[str, Any]]  # name: isolated, seconds, peak_bytes, events


def execute(job: Job) -> Done:
    """Run one submission's notebooks in this thread's sandbox.

    Raises: GradingError where the coordinator runs another version.
    """
    if job.version != autograder.__version__:
        raise GradingError(
            f"the coordinator runs autograder {job.version} and this worker "
            f"{autograder.__version__}; install the same version on both"
        )
    executed, record = {}, {}
    for name, text in job.notebooks.items():
        notebook = nbformat.reads(text, as_version=4)
        if ENGINE_RUNS or job.isolate:
            done = _sandbox(job).run(
                notebook, job.files, interface=job.interfaces[name], own=job.own
            )
        else:
            done = _in_kernel(notebook, job)
        executed[name] = nbformat.writes(done.notebook)
        record[name] = done.record()
    return Done(executed, record)


def _sandbox(job: Job) -> Sandbox:
    """Give this thread's sandbox, which stays warm from one submission to the next."""
    current = getattr(_own, "sandbox", None)
    wanted = job.limits, job.isolate, job.imports
    if current is None or (current.limits, current.isolate, current.imports) != wanted:
        if current is not None:
            current.close()
        _own.sandbox = Sandbox(*wanted)
        _every.append(_own.sandbox)
    return _own.sandbox


def _in_kernel(notebook: NotebookNode, job: Job) -> Execution:
    """Run a notebook with nbgrader's own executor, which does not isolate.

    Raises: GradingError where the kernel ends; the whole submission is lost then.
    """
    from jupyter_core.utils import ensure_event_loop
    from nbgrader.preprocessors import Execute

    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in job.files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        step = Execute(timeout=math.ceil(job.limits.cell_seconds))
        try:
            executed, _ = step.preprocess(notebook, {"metadata": {"path": folder}})
        except Exception as error:  # nbclient's, jupyter_client's or nbgrader's
            raise GradingError(f"the kernel failed: {error}") from error
        finally:
            ensure_event_loop().close()  # this thread's, which nbclient makes and leaves
    return Execution(executed, isolated=False, seconds=time.monotonic() - start)


@contextmanager
def local(workers: int):
    """Give an executor of `workers` threads; what runs and their sandboxes end with the block."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="grading")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        end = threading.Thread(target=pool.shutdown)
        end.start()
        while end.is_alive():  # a thread may only just be starting with a submission
            _close_sandboxes()
            end.join(0.1)
        _close_sandboxes()
        _every.clear()


def _close_sandboxes() -> None:
    for sandbox in tuple(_every):
        sandbox.close()


@contextmanager
def cluster(address: str):
    """Give an executor on the Dask cluster whose scheduler listens at `address`.

    Raises: GradingError where Dask is not installed or nothing answers there.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise GradingError(
            "grading on a cluster needs Dask: pip install 'autograder[cluster]'"
        ) from error
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise GradingError(
            f"no Dask scheduler answers at {address}: start one with 'dask scheduler', "
            "then workers with 'dask worker ADDRESS'"
        ) from error
    with client:
        executor: Executor = client.get_executor(pure=False, retries=CLUSTER_RETRIES)
        yield executor
