"""What is said of rows that miss the parameter budget."""

import pandas as pd

from grasp_bench.results.sizes import missed

TRAINED = {"grasp": 43008.0, "cm": 47616.0, "oft": 30752.0, "lora": 47300.0, "images": float("nan")}
SAID = "Trainable parameters miss the budget of 43,008 by more than 10 %: cm (+11 %), oft (-28 %)."


def rows(trained: dict[str, float], **active: float) -> pd.DataFrame:
    """Costs of rows, one for each method."""
    found = pd.DataFrame({"method": list(trained), "name": list(trained), "trainable_parameters": trained.values()})
    return found.assign(active_parameters=found["method"].map(active.get).astype(float))


def test_rows_that_miss_the_budget_by_more_than_a_tenth_are_named() -> None:
    costs = rows(TRAINED)
    assert missed(costs, "tiny-sd3") == missed(pd.concat([costs, costs]), "tiny-sd3") == SAID
    assert missed(rows({"grasp": 43008.0, "lora": 47300.0}), "tiny-sd3") == ""
    assert missed(costs, "sd3-12345678") == ""  # weights of a user's own, whose size is not known


def test_parameters_at_work_for_one_image_are_told_of_where_they_are_fewer() -> None:
    costs = rows(TRAINED, grasp=10752.0, oft=30752.0)
    assert missed(costs, "tiny-sd3") == (
        f"{SAID} Those at work for one image miss the budget of 43,008 by more than 10 %: grasp (-75 %). "
        "Those at work for one image were not recorded for cm, lora."
    )


def test_rows_of_one_method_that_differ_in_size_are_told_apart() -> None:
    costs = rows({"shared-adapter": 43008.0, "cm": 47616.0})
    narrow = costs.assign(name=["shared-adapter with control=active", "cm with none"])
    narrow.loc[0, "trainable_parameters"] = 10752.0
    assert missed(pd.concat([costs, narrow]), "tiny-sd3") == (
        "Trainable parameters miss the budget of 43,008 by more than 10 %: cm (+11 %), "
        "shared-adapter with control=active (-75 %)."
    )
