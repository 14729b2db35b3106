from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.tools.loading import load_tools
from orchestrator.tools.toolbox import Toolbox

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Returns a function that writes a module to a folder on the path and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write_module(name: str, text: str) -> str:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    yield write_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_public_functions_are_returned_in_order_of_definition(write: Write) -> None:
    first = write(
        "desk.first",
        '''
        from math import sqrt
        from json import loads as read

        ANSWER = 42

        class Helper:
            pass

        def zebra(x: int) -> int:
            """Z."""
            return _helper(x)

        def _helper(x):
            return x

        async def ant(x: int) -> int:
            """A."""
            return x

        again = zebra
        ''',
    )
    second = write("second", 'def bee() -> int:\n    """B."""\n    return 1\n')
    functions = load_tools([first, second])
    assert [function.__name__ for function in functions] == ["zebra", "ant", "bee"]
    assert Toolbox(functions).names == {"zebra", "ant", "bee"}
    assert load_tools([]) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("def f(x):\n    'F.'\n", r"bad\.f: parameter 'x' has no type: annotate it"),
        ("def f(x: int): pass\n", r"bad\.f has no docstring"),
        ("def f(*x: int):\n    'F.'\n", r"bad\.f: parameter \*x: int is variadic"),
        ("f = lambda x: x\n", r"'<lambda>' cannot be the name of a tool"),
        ("from math import sqrt\nX = 1\n", r"'bad' defines no public function: define one without a leading"),
        ("import nonexistent_dependency\n", r"'bad' needs the module 'nonexistent_dependency': install it"),
        ("def f(:\n", r"'bad' cannot be imported: SyntaxError: "),
        ("raise RuntimeError('no licence')\n", r"'bad' cannot be imported: RuntimeError: no licence"),
    ],
)
def test_invalid_module_is_rejected(write: Write, text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load_tools([write("bad", text)])


@pytest.mark.parametrize("name", ["no_such_module_here", "no_such_package_here.inner"])
def test_missing_module_is_reported_with_a_fix(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' was not found: add its folder to PYTHONPATH"):
        load_tools([name])


def test_same_name_in_two_modules_is_rejected(write: Write) -> None:
    for name in ("left", "right"):
        write(name, 'def find() -> int:\n    """F."""\n    return 1\n')
    with pytest.raises(
        ValueError, match=r"two tools are named 'find', left\.find and right\.find: rename one"
    ):
        load_tools(["left", "right"])
