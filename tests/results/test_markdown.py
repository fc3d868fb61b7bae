import pytest
from helpers.records import example, metric, record, reported

from grasp_bench.results.formats import markdown
from grasp_bench.results.tables import sections
from grasp_bench.text import markdown_escaped


def test_tables_headings_and_notes():
    text = markdown(sections(reported(example())))
    assert text.startswith("## digits-lt · version 1 · standard budget · tiny-sd3@abc\n\n**FD(digits-cnn) ↓**\n\n")
    assert "| method | guidance | division | seeds | tail | all |\n| --- | --- | --- | --- | ---: | ---: |\n" in text
    assert "| grasp | cfg | closed | 3, provisional | **13.00 ± 2.48** | 11.00 ± 2.48 |\n" in text
    assert "| lora | cfg | closed | 1, provisional | 20.00 | **9.00** |\n" in text
    assert "| real reference |  |  |  | 1.50 | 0.50 |\n" in text
    assert "| moe\\|x | cfg | closed | 0 | oom | out of memory at step 3 \\[4 GiB asked\\] |\n" in text
    assert text.endswith("(by their hash).\n")


def test_one_tilde_of_changed_settings_stays():
    assert markdown_escaped("grasp~rank=32") == "grasp~rank=32"


def test_headings_have_the_level_asked_for():
    assert markdown(sections(reported(example())), level=4).startswith("#### digits-lt")


@pytest.mark.parametrize(
    "name", ["a|b", "[x](http://x)", "<script>alert(1)</script>", "`x`", "*b*_c_", "&lt;", "a\nb", "~a~", "$a$"]
)
def test_a_hostile_name_stays_within_its_cell(name):
    runs = [record("grasp", 0, [metric("recall", "all", 0.5)], changed={"method": {"a": name}})]
    text = markdown(sections(reported(runs)))
    row = next(line for line in text.splitlines() if line.endswith("| closed | 1, provisional | 0.500 |"))
    assert row.replace("\\|", "").count("|") == 7
    shown = row[row.index("a=") : row.index(" | closed |")]
    assert shown == markdown_escaped(f"a={name}")
    assert not any(each in "<>[]`*_&~$" and shown[at - 1] != "\\" for at, each in enumerate(shown))
