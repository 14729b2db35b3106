"""Deployment files: a mutated tandem.yaml, and YAML that grows or nests.

Each gives a plan with its cost, or a DeploymentError that names the file, in bounded time and memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import yaml
from hypothesis import strategies as st

from tests.fuzz.mutate import edits, mutated
from tests.fuzz.rig import Failure, Rig
from tests.fuzz.target import Case, Target
from tests.support.processes import ROOT

_SECONDS = 10.0
_MEMORY_BYTES = 1024**3
SHIPPED = (ROOT / "tandem.yaml").read_bytes()
_LINES = [line.split("  #")[0] for line in SHIPPED.decode().splitlines() if not line.lstrip().startswith("#")]
SHORT = "\n".join(_LINES).encode()
_ALIASES = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 16)
)
TOKENS = (
    "\n", ": ", "- ", "  ", "\t", "#", "&a ", "*a", "<<: *a", "!!set {a, b}", "!!binary x",
    "!!timestamp x", "!!timestamp 2001-99-99", "!!python/object:os.system x", "!!int x", "!!float x",
    "!!bool x", "!!omap [a]", "!!pairs [a]", "!!map x", "!!seq x", "!!str {}", "!!null x", "%YAML 9.9\n",
    "%TAG ! x\n", "---\n", "...\n", "? ", "|", ">", "{", "}", "[", "]", "'", '"', '"\\x', "null", "~",
    ".inf", ".nan", "-1", "0x10", "1e400", "1:2:3", "9" * 5000, "2001-99-99", "=", "\0", "\xff",
    "[" * 3000, "{a: " * 2000, "x" * 5000, _ALIASES, "10.0.0.0/33", "eu-central-1", "arn:aws:acm:x",
    "true", "999999999999", "/etc/passwd", "../x", "docs", "tests/fuzz/targets", "package-lock.json",
)  # fmt: skip
_SETTINGS = [(section, name) for section, values in yaml.safe_load(SHIPPED).items() for name in values or [""]
             if isinstance(values, dict)]  # fmt: skip
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(TOKENS),
    st.text(max_size=12),
    st.lists(st.text(max_size=8) | st.integers(0, 9), max_size=3),
)


@st.composite
def _cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(("mutated", "written", "dumped")))
    if kind == "mutated":
        base = draw(st.sampled_from((SHORT, SHIPPED, _ALIASES.encode(), b"")))
        return {"file": mutated(base, draw(edits(TOKENS, most=6))).decode("latin-1")}
    if kind == "written":
        setting = st.sampled_from(_SETTINGS)
        words = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=3).map("".join)
        written = draw(st.lists(st.tuples(setting, words), min_size=1, max_size=3))
        lines = [f"{section}:\n  {name}: {word}\n" for (section, name), word in written]
        return {"file": "".join(lines).encode("utf-8").decode("latin-1")}
    document: dict[str, dict[str, object]] = {}
    for section, name in draw(st.lists(st.sampled_from(_SETTINGS), min_size=1, max_size=5)):
        document.setdefault(section, {})[name] = draw(_VALUES)
    return {"file": yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "replace").decode("latin-1")}


def check(_: Rig, case: Case) -> None:
    _reader().check(case["file"].encode("latin-1"))


class _Reader:
    """Reads files in a process with limited memory, which is replaced if it hangs."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def check(self, content: bytes) -> None:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_prepare)
        try:
            problem = self._pool.submit(_read, content).result(_SECONDS + 20)
        except (TimeoutError, BrokenProcessPool) as error:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True)
            self._pool = None
            raise Failure(f"reading the file does not end, or ends the process: {error!r}") from None
        if problem:
            raise Failure(problem)


_READERS: list[_Reader] = []


def _reader() -> _Reader:
    if not _READERS:
        _READERS.append(_Reader())
    return _READERS[0]


def _prepare() -> None:
    import infra.deployment.checks
    import infra.deployment.cost  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _read(content: bytes) -> str:
    """Returns which rule the file broke, or an empty string."""
    import signal

    from infra.deployment.checks import checked_plan
    from infra.deployment.cost import summary
    from infra.deployment.file import DeploymentError, load_deployment

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tandem.yaml"
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            signal.setitimer(signal.ITIMER_PROF, _SECONDS)
            signal.signal(signal.SIGPROF, _too_slow)
        try:
            summary(checked_plan(load_deployment(path), report=len))
        except DeploymentError as error:
            if str(path) not in str(error):
                return f"the error does not name the file: {error}"
        except BaseException as error:  # noqa: BLE001 (reported)
            return f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"took more than {_SECONDS:g} s of CPU")


TARGET = Target("deployment_files", _cases(), check)
