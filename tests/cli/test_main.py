import sys
import warnings

import pytest

from grasp_bench import plugins
from grasp_bench.cli import main
from grasp_bench.errors import UserError


@pytest.fixture
def listing(monkeypatch):
    """Run `grasp-bench list guidance` where looking for plugins does what the test says."""

    def run(available):
        monkeypatch.setattr(plugins, "available", available)
        main()

    monkeypatch.setattr(sys, "argv", ["grasp-bench", "list", "guidance"])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it
    return run


def raising(error):
    def available(kind):
        raise error

    return available


def test_a_mistake_of_the_users_is_one_message(listing, capsys):
    with pytest.raises(SystemExit) as stop:
        listing(raising(UserError("no such thing [here]")))
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "error: no such thing [here]\n")


def test_what_a_file_says_does_not_steer_the_terminal(listing, capsys):
    with pytest.raises(SystemExit):
        listing(raising(UserError("field '\x1b[2J':\n  é is odd")))
    assert capsys.readouterr().err == "error: field '\\u001b[2J':\n  é is odd\n"


def test_a_warning_of_another_package_does_not_steer_the_terminal(listing, capsys):
    def available(kind):
        warnings.warn("an odd \x1b[2J\x07 name", stacklevel=1)
        return {}

    with pytest.raises(SystemExit):
        listing(available)
    shown = capsys.readouterr().err
    assert "UserWarning: an odd \\u001b[2J\\u0007 name\n" in shown
    assert all(line.isprintable() for line in shown.splitlines())


def test_ctrl_c_says_so(listing, capsys):
    with pytest.raises(SystemExit) as stop:
        listing(raising(KeyboardInterrupt()))
    assert stop.value.code == 130
    assert capsys.readouterr().err == "cancelled\n"


def test_a_fault_of_ours_is_not_hidden(listing):
    with pytest.raises(ZeroDivisionError):
        listing(raising(ZeroDivisionError()))
