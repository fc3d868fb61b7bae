"""Options of the report that would do nothing are refused."""

import pytest
from helpers.records import metric, record, save
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.errors import UserError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--html", "site", "--sort", "recall", "--metric", "recall"), "leave out --metric, --sort."),
        (("--html", "site", "--test", "t"), "is sorted by its reader; leave out --test."),
        (("--only-missing", "--status", "failed"), "leave out --status."),
        (("--only-missing", "--baseline", "grasp", "--sort", "fd"), "leave out --sort, --baseline."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_that_would_do_nothing_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, record("grasp", 0, [metric("recall", "all", 0.5)]))
    error = CliRunner().invoke(app, ["report", "--results", str(tmp_path), *arguments]).exception
    assert isinstance(error, UserError)
    assert message in str(error)
    assert not (tmp_path / "site").exists()
