import pytest
from helpers.records import metric, record, reported

from grasp_bench.contracts.record import RunRecord, Tuning

SCORES = [metric("coverage", "tail", 0.5)]


def labels(runs, **options):
    (board,) = reported(runs, **options).leaderboards
    return sorted(board.costs["label"])


def runs():
    own = [record("a", seed, SCORES, label="a~tuned=8") for seed in range(2)]
    other = [record("a", seed, SCORES, label="a+none~tuned=8", default_guidance=False) for seed in range(3)]
    hand = [record("a", 0, SCORES, label="a~rank=2", changed={"method": {"rank": 2}})]
    return [*own, *other, *hand, record("b", 0, SCORES, label="b+none", default_guidance=False)]


def test_a_method_has_one_row_at_its_chosen_guidance():
    assert labels(runs()) == ["a~tuned=8", "b+none"]


def test_all_rows_are_there_when_asked_for():
    assert labels(runs(), all=True) == ["a+none~tuned=8", "a~rank=2", "a~tuned=8", "b+none"]


def test_rows_that_are_named_are_there():
    assert labels(runs(), method=["a", "a+*"]) == ["a+none~tuned=8", "a~tuned=8"]
    assert labels(runs(), method=["a~rank=2"]) == ["a~rank=2"]


def at_scale(searched: float | None, scale: float, label: str, seeds: int = 1, default: float = 2.0) -> list[RunRecord]:
    """Runs at a guidance scale, of a method for which a search chose one; what is not the default is changed."""
    runs = []
    tuning = Tuning(trials=16, best=1, settings={}, scale=searched)
    changed = {"guidance": {"guidance_scale": scale}} if scale != default else {}
    for seed in range(seeds):
        run = record("a", seed, SCORES, label=label, tuned=tuning, changed=changed)
        guidance = run.spec.guidance.model_copy(update={"settings": {"guidance_scale": scale}})
        spec = run.spec.model_copy(update={"guidance": guidance})
        runs.append(run.model_copy(update={"spec": spec, "run_id": spec.id}))
    return runs


@pytest.mark.parametrize("searched", [1.2, 2.0, 2.5, 3.0])
def test_a_methods_row_is_at_the_scale_that_its_search_chose(searched):
    others = [each for each in (1.0, 1.5, 2.0, 4.0) if each != searched]
    own = at_scale(searched, searched, f"a+cfg~guidance_scale={searched}~tuned=16")
    more = [run for scale in others for run in at_scale(searched, scale, f"a+cfg~{scale}", seeds=3)]
    assert labels([*more, *own]) == [f"a+cfg~guidance_scale={searched}~tuned=16"]


def test_the_scale_that_a_search_chose_stands_in_the_row_also_where_it_is_the_default():
    (searched,), (chosen,) = at_scale(2.0, 2.0, "a~tuned=16"), at_scale(None, 2.0, "a~tuned=16")
    (board,) = reported([searched]).leaderboards
    assert list(board.costs["settings"]) == ["guidance_scale=2.0"]
    assert str(searched.row) == "a with cfg, guidance_scale=2.0, tuned=16"
    assert str(chosen.row) == "a with tuned=16"
