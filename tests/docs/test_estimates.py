"""The table of estimates says what the command says now; all of it would take too long."""

import itertools
import subprocess
import sys

import pytest

from grasp_bench.estimate.table import BACKBONES, METHODS, RESOLUTIONS

from .estimates import written


def test_every_row_is_there():
    named = itertools.product(BACKBONES, map(str, RESOLUTIONS), METHODS)
    assert list(written()) == list(named)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side", "method"), [("sana-0.6b", 512, "grasp"), ("pixart-sigma", 256, "lora")])
def test_a_row_is_up_to_date(backbone, side, method):
    """In a process of its own, as the command is."""
    code = "from grasp_bench.estimate.table import lines, rows; "
    code += f"print(*lines(rows([{method!r}], backbones=[{backbone!r}], resolutions=[{side}])), sep='\\n')"
    line = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1]
    assert line == written()[backbone, str(side), method], "make estimates writes them all"
