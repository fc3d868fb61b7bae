"""The sentence on rows that miss the parameter budget."""

import pandas as pd

from grasp_bench.results.sizes import missed


def test_rows_that_miss_the_budget_by_more_than_a_tenth_are_named() -> None:
    trained = pd.Series({"grasp": 43008.0, "cm": 47616.0, "oft": 30752.0, "lora": 47300.0, "images": float("nan")})
    said = "Trainable parameters miss the budget of 43,008 by more than 10 %: cm (+11 %), oft (-28 %)."
    costs = pd.DataFrame({"trainable_parameters": trained, "active_parameters": float("nan")})
    assert missed(costs, "tiny-sd3") == missed(pd.concat([costs, costs]), "tiny-sd3") == said
    assert missed(costs.loc[["grasp", "lora"]], "tiny-sd3") == ""
    assert missed(costs, "sd3-12345678") == ""  # weights of a user's own, whose size is not known
    costs.loc["grasp", "active_parameters"] = 10752.0  # what is not known of the others is not told
    assert missed(costs, "tiny-sd3") == (
        f"{said} Those at work for one image miss the budget of 43,008 by more than 10 %: grasp (-75 %)."
    )
