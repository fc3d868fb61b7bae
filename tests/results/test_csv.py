import csv
import io

import pyarrow.parquet as pq
import pytest
from helpers.records import cost, example, metric, record, reported, separated

from grasp_bench.results.formats import KINDS, csv_text, rendered


def lines(records, **options) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(reported(records, **options)))))


def test_csv_round_trip():
    rows = lines(example())
    assert len(rows) == 7
    first = rows[0]
    assert (first["task_label"], first["label"], first["metric"], first["group"]) == (
        "digits-lt",
        "grasp",
        "fd",
        "tail",
    )
    assert (first["direction"], first["n_seeds"], first["n"], float(first["reference"])) == ("lower", "3", "30", 1.5)
    assert [float(first[key]) for key in ("mean", "low", "high")] == pytest.approx([13, 13 - 2.48414, 13 + 2.48414])
    lora = next(row for row in rows if row["label"] == "lora" and row["group"] == "all")
    assert (lora["low"], lora["high"], lora["reference"], lora["rank_low"]) == ("", "", "", "")
    assert (lora["trainable_parameters"], lora["train_seconds"], lora["peak_memory_mib"]) == ("1234.0", "60.0", "900.0")
    failed = rows[-1]
    assert (failed["label"], failed["status"], failed["metric"], failed["mean"]) == ("moe|x", "oom", "", "")
    assert " ".join(failed["reason"].split()) == "out of memory at step 3 [4 GiB asked]"


def test_ranks_and_differences_have_columns():
    runs = separated()
    scores = [metric("coverage", "tail", 0.9 - seed / 50) for seed in range(8)]
    primary = [each.model_copy(update={"scores": [*each.scores, scores[each.spec.seed]]}) for each in runs]
    ranks = {row["label"]: (row["rank_low"], row["rank_high"], row["could_be_best"]) for row in lines(primary)}
    assert ranks == dict.fromkeys(("alike", "best", "last"), ("1", "3", "True"))
    rows = {row["label"]: row for row in lines(runs, baseline="last", test="permutation")}
    assert float(rows["best"]["difference"]) == pytest.approx(0.6005)
    assert (rows["best"]["p"], rows["best"]["p_adjusted"], rows["best"]["baseline"]) == (
        "0.0078125",
        "0.0078125",
        "last",
    )
    assert (rows["last"]["difference"], rows["last"]["baseline"]) == ("", "")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_a_name_is_no_formula_to_a_spreadsheet(name):
    (row,) = lines([record("grasp", 0, [metric("recall", "all", -0.5)], label=name)])
    assert row["label"] == f"'{name}"
    assert row["mean"] == "-0.5"  # a number stays one


def test_parquet_has_the_lines_of_the_csv_with_types():
    report = reported(separated() + example()[-1:], baseline="last")
    table = pq.read_table(io.BytesIO(rendered(report, "parquet")))
    assert table.column_names == list(KINDS)
    plain = [{k: "" if v is None else str(v) for k, v in row.items()} for row in table.to_pylist()]
    assert plain == list(csv.DictReader(io.StringIO(csv_text(report))))
    assert table["primary"].to_pylist() == [False, False, False, None]
    assert str(table.schema.field("mean").type) == "double"


def test_intervals_name_their_unit_and_boards_their_versions():
    rows = lines(separated(), baseline="last")
    assert {row["unit"] for row in rows} == {"seed"}
    assert {row["scale"] for row in rows if row["difference"]} == {"linear"}
    assert {row["backbone_revision"] for row in rows} == {"abc"}
    assert {row["protocol"] for row in rows} == {""}
    protocols = {"rules": "1.0"}, {"rules": "2.0"}
    apart = [record("grasp", 0, [metric("fd", "all", 1.0)], protocol=each) for each in protocols]
    assert len({row["protocol"] for row in lines(apart)}) == 2


def test_costs_that_a_record_of_before_lacks_are_empty():
    spent = cost().model_copy(update={"gflops_per_image": None, "backward_passes_per_image": 3.0})
    (row,) = lines([record("grasp", 0, [metric("fd", "all", 1.0)], cost=spent)])
    assert (row["gflops_per_image"], row["backward_passes_per_image"]) == ("", "3.0")
