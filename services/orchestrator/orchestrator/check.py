"""`python -m orchestrator.check`: whether the service would start with this environment.

Prints one JSON object: `settings` are the names of all variables, `tools` the names of the tools that were
found, and `problems` a list of `{name, value, problem}`, one for each variable or tool module that would stop
the service. Connects to nothing. The exit status is 1 if there are problems.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .app import Orchestrator
from .errors import SettingsError
from .settings import Settings
from .tools.toolbox import load_tools


@dataclass(frozen=True, slots=True)
class Problem:
    """A variable, the value that cannot be used, which is hidden if it is secret, and the reason."""

    name: str
    value: str
    problem: str


@dataclass(slots=True)
class Report:
    """What the check found."""

    tools: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, error: SettingsError) -> None:
        self.problems.append(Problem(error.name, error.value, error.allowed))


def check(environment: Mapping[str, str]) -> Report:
    """Finds every problem of an environment, not only the first, which is where the service would stop."""
    report = Report()
    settings = _settings(dict(environment), report)
    loaded = [module for module in settings.tool_modules if _loads(module, report)]
    complete = len(loaded) == len(settings.tool_modules)
    # The tools of a module that does not load are not known, so neither is what may be attached.
    attached = settings.attach_tools if complete else ()
    changed: dict[str, Any] = {"tool_modules": tuple(loaded), "attach_tools": attached}
    while True:
        try:
            service = Orchestrator(settings.model_copy(update=changed))
        except SettingsError as error:
            report.add(error)
            if error.name != "ATTACH_TOOLS":
                return report
            changed["attach_tools"] = tuple(one for one in changed["attach_tools"] if one != error.value)
        else:
            report.tools = sorted(service.tool_names)
            return report


def _settings(environment: dict[str, str], report: Report) -> Settings:
    while True:
        try:
            return Settings.from_environment(environment)
        except SettingsError as error:
            report.add(error)
            if environment.pop(error.name, None) is None:
                # A variable that is missing, or that does not go with another one.
                return Settings.from_environment({})


def _loads(module: str, report: Report) -> bool:
    try:
        load_tools([module])
    except ValueError as error:
        report.problems.append(Problem("TOOL_MODULES", module, str(error)))
        return False
    except BaseException as error:  # noqa: BLE001  a module may also exit
        found = f"the tool module {module!r} cannot be imported: {type(error).__name__}: {error}"
        report.problems.append(Problem("TOOL_MODULES", module, found))
        return False
    return True


def main() -> int:
    """Checks the process's own environment."""
    with contextlib.redirect_stdout(sys.stderr):  # a module may print when it is imported
        report = check(os.environ)
    settings = [name.upper() for name in Settings.model_fields]
    sys.stdout.write(json.dumps({"settings": settings, **asdict(report)}) + "\n")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
