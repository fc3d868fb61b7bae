import pytest

from grasp_bench.errors import UserError
from grasp_bench.results.options import Options, parse_options


def test_options_are_those_of_the_command_line():
    text = "--task digits-lt --metric fd --metric=recall --sort fd:tail --baseline 'grasp~rank=1, 2' --test t"
    assert parse_options(text, "here") == Options(
        task=("digits-lt",), metric=("fd", "recall"), sort="fd:tail", baseline="grasp~rank=1, 2", test="t"
    )
    assert parse_options("", "here") == Options()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--metrik fd", "a.md, line 3: '--metrik' is no option that can stand here. Did you mean '--metric'?"),
        ("fd", "a.md, line 3: 'fd' is no option"),
        ("--format csv", "'--format' is no option that can stand here"),
        ("--metric", "a.md, line 3: --metric has no value"),
        ("--metric --task x", "--metric has no value"),
        ("--test z", "--test z: expected one of model, permutation, wilcoxon, t"),
        ("--status done", "--status done: expected one of finished, failed, oom, cancelled, skipped"),
        ("--sort fd --sort kid", "--sort is given twice ('fd' and 'kid')"),
        ("--task 'a", "cannot be taken apart: No closing quotation"),
    ],
)
def test_mistakes_name_the_place_and_the_option(text, message):
    with pytest.raises(UserError) as caught:
        parse_options(text, "a.md, line 3")
    assert message in str(caught.value)
