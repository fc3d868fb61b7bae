"""The table of estimates says what the command says now; all of it would take too long."""

import itertools

import pytest

from grasp_bench.estimate.table import BACKBONES, METHODS, RESOLUTIONS, lines, rows

from .estimates import written


def test_every_row_is_there():
    named = itertools.product(BACKBONES, map(str, RESOLUTIONS), METHODS)
    assert list(written()) == list(named)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side", "method"), [("sana-0.6b", 512, "grasp"), ("pixart-sigma", 256, "lora")])
def test_a_row_is_up_to_date(backbone, side, method):
    *_, line = lines(rows([method], backbones=[backbone], resolutions=[side]))
    assert line == written()[backbone, str(side), method], "make estimates writes them all"
