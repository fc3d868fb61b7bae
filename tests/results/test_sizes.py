"""What is said of rows that miss the parameter budget."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.records import boards, cost, found_runs, metric, record, reported, save

from grasp_bench.backbones.recipes import recipe_of, recorded
from grasp_bench.contracts.spec import Component
from grasp_bench.results.formats import latex
from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.view import lines
from grasp_bench.results.sizes import missed
from grasp_bench.results.summary import viewed
from grasp_bench.results.tables import sections

BUDGET = recipe_of("tiny-sd3").parameters
TRAINED = {"grasp": 43008.0, "cm": 47616.0, "oft": 30752.0, "lora": 47300.0, "images": float("nan")}
SAID = "Trainable parameters miss the budget of 43,008 by more than 10 % (†): cm (+11 %), oft (-28 %)."
UNKNOWN = "Parameters at work for one image were not recorded"


def rows(trained: dict[str, float], **active: float) -> pd.DataFrame:
    """Costs of rows, one for each method."""
    found = pd.DataFrame({"method": list(trained), "name": list(trained), "trainable_parameters": trained.values()})
    return found.assign(active_parameters=found["method"].map(active.get).astype(float))


def test_rows_that_miss_the_budget_by_more_than_a_tenth_are_named() -> None:
    costs = rows(TRAINED)
    assert missed(costs, BUDGET) == missed(pd.concat([costs, costs]), BUDGET) == f"{SAID} {UNKNOWN}."
    assert missed(rows({"grasp": 43008.0, "lora": 47300.0}), BUDGET) == f"{UNKNOWN}."
    assert missed(rows({"lora": 47300.0}, lora=47300.0), BUDGET) == ""
    assert missed(rows({"images": float("nan")}), BUDGET) == ""
    assert missed(costs, None) == ""
    assert recorded("sd3", "").parameters is None  # of before recipes were recorded, so that its size is not known
    assert recorded("not-installed", "its-recipe").parameters is None


@pytest.mark.parametrize(
    ("family", "recipe", "budget"),
    [("sd3", "sd3-medium", 9.4), ("sd3", "sd3.5-medium", 12), ("flux", "flux-schnell", 26)],
)
def test_weights_in_a_folder_have_the_budget_of_their_recipe(family: str, recipe: str, budget: float) -> None:
    """Whose name on the command line is no alias, but the family and the start of their revision."""
    runs = [
        run.model_copy(
            update={
                "spec": run.spec.model_copy(
                    update={"backbone": Component(name=family, version="12345678", settings={})}
                ),
                "backbone_label": f"{family}-12345678",
                "recipe": recipe,
                "cost": cost(parameters=trained),
            }
        )
        for name, trained in (("grasp", round(budget * 1e6)), ("ia3", 500_000))
        for run in [record(name, 0, [metric("recall", "tail", 0.5)])]
    ]
    (board,) = boards(runs)
    share = 100 * (0.5 / budget - 1)
    said = (
        f"Trainable parameters miss the budget of {round(budget * 1e6):,} by more than 10 % (†): ia3 ({share:+.0f} %)."
    )
    assert board.sizes.startswith(said)
    assert board.parameters == round(budget * 1e6)


def test_rows_that_miss_the_budget_have_a_mark_beside_either_number(tmp_path: Path) -> None:
    assert BUDGET == 43008
    spent = cost(parameters=BUDGET)
    runs = [
        record(name, 0, [metric("fd", "tail", value)], cost=spent.model_copy(update=counts))
        for value, (name, counts) in enumerate(
            {
                "grasp": {"active_parameters": 10752},
                "lora": {"active_parameters": 43648, "trainable_parameters": 43648},
                "vanilla-ft": {"active_parameters": None, "trainable_parameters": 585604},
            }.items()
        )
    ]
    report = reported(runs)
    (costs,) = [grid for section in sections(report) for grid in section.grids if grid.title == "cost"]
    at = [costs.columns.index(title) for title in ("trainable parameters", "at work per image")]
    assert {row[0].text: [row[place].text for place in at] for row in costs.rows} == {
        "grasp": ["43,008", "10,752 †"],
        "lora": ["43,648", "43,648"],
        "vanilla-ft": ["585,604 †", "-"],
    }
    (section,) = viewed(reported(runs, baseline="vanilla-ft", view="summary"))
    assert {row[0].text: row[-1].text for row in section.grids[0].rows[:-1]} == {
        "grasp": "43,008",
        "lora": "43,648",
        "vanilla-ft": "585,604 †",
    }
    assert "miss the budget of 43,008 by more than 10 % (†): vanilla-ft" in section.notes[0]
    assert r"585,604 $\dagger$" in latex(sections(report))
    save(tmp_path, *runs)
    (page,) = read_boards(found_runs(tmp_path))
    shown = {line.method: number.text for line in lines(page) for number in line.numbers if "," in number.text}
    assert shown == {"grasp": "43,008", "lora": "43,648", "vanilla-ft": "585,604 †"}


def test_parameters_at_work_for_one_image_are_told_of_where_they_are_fewer() -> None:
    costs = rows(TRAINED, grasp=10752.0, oft=30752.0)
    assert missed(costs, BUDGET) == (
        f"{SAID} Parameters at work for one image miss the budget of 43,008 by more than 10 % (†): grasp (-75 %). "
        f"{UNKNOWN} for cm, lora."
    )


def test_rows_of_one_method_that_differ_in_size_are_told_apart() -> None:
    costs = rows({"shared-adapter": 43008.0, "cm": 47616.0})
    narrow = costs.assign(name=["shared-adapter with control=active", "cm with none"])
    narrow.loc[0, "trainable_parameters"] = 10752.0
    assert missed(pd.concat([costs, narrow]), BUDGET) == (
        "Trainable parameters miss the budget of 43,008 by more than 10 % (†): cm (+11 %), "
        f"shared-adapter with control=active (-75 %). {UNKNOWN}."
    )


def test_only_the_rows_whose_parameters_at_work_were_not_recorded_are_named_so() -> None:
    natural, balanced = rows({"grasp": 43008.0}), rows({"grasp": 43008.0}, grasp=10752.0)
    costs = pd.concat([natural.assign(name="grasp with none"), balanced.assign(name="grasp with sampling=balanced")])
    assert missed(costs, BUDGET) == (
        "Parameters at work for one image miss the budget of 43,008 by more than 10 % (†): "
        f"grasp with sampling=balanced (-75 %). {UNKNOWN} for grasp with none."
    )
