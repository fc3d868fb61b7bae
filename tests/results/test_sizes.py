"""The sentence on rows that miss the parameter budget."""

import pandas as pd

from grasp_bench.results.sizes import missed


def test_rows_that_miss_the_budget_by_more_than_a_tenth_are_named() -> None:
    trained = pd.Series({"grasp": 43008.0, "cm": 47616.0, "oft": 30752.0, "lora": 47300.0, "images": float("nan")})
    said = "Trainable parameters miss the budget of 43,008 by more than 10 %: cm (+11 %), oft (-28 %)."
    assert missed(trained, "tiny-sd3") == missed(pd.concat([trained, trained]), "tiny-sd3") == said
    assert missed(trained[["grasp", "lora"]], "tiny-sd3") == ""
    assert missed(trained, "sd3-12345678") == ""  # weights of a user's own, whose size is not known
