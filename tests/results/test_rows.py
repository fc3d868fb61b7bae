from helpers.records import metric, record, reported

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
