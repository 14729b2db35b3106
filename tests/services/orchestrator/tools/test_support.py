"""If a server that these tests need cannot start, they fail with the reason instead of being skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import postgres


def test_missing_postgresql_is_reported_with_what_was_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_PLACES", ())
    with pytest.raises(postgres.PostgresMissing, match=r"these tests need PostgreSQL.* apt broke"):
        postgres.find_programs(str(tmp_path), lambda: "apt broke")


def test_postgresql_is_used_after_a_successful_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_PLACES", ())

    def install() -> str:
        for name in ("initdb", "pg_ctl"):
            (tmp_path / name).touch(mode=0o755)
        return "done"

    programs = postgres.find_programs(str(tmp_path), install)
    assert programs == {"initdb": str(tmp_path / "initdb"), "pg_ctl": str(tmp_path / "pg_ctl")}


def test_incomplete_installation_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postgres, "_PLACES", ())
    (tmp_path / "initdb").touch(mode=0o755)
    with pytest.raises(postgres.PostgresMissing):
        postgres.find_programs(str(tmp_path), lambda: "nothing was done")
