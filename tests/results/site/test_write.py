import gzip
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.records import found_runs, metric, record, save, separated

from grasp_bench.contracts.record import Tuning
from grasp_bench.contracts.spec import Component
from grasp_bench.errors import UserError
from grasp_bench.results.frame import load_results
from grasp_bench.results.grids import difference_text, mean_text
from grasp_bench.results.leaderboard import leaderboards
from grasp_bench.results.site.beside import Beside
from grasp_bench.results.site.boards import read_boards
from grasp_bench.results.site.glossary import COSTS, definition
from grasp_bench.results.tables import OTHER_PROTOCOL
from grasp_bench.run.files import REAL_SHEET
from grasp_bench.run.pictures import write_sheet
from grasp_bench.temporary import temporary_name
from results.site.results import BREAKOUT, CLASSES, CLUSTERS, HOSTILE, PEAR, make_page, make_results


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and all text outside scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.inside: list[str] = []
        self.text, self.scripts, self.styles = "", [], []
        self.begun, self.said = "", []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.begun = tag
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        self.begun = ""
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if self.inside:
            (self.scripts if self.inside[-1] == "script" else self.styles).append(data)
        else:
            self.text += data
            self.said.append((self.begun, data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self, tag):
        """Texts that elements begin with."""
        return [text for name, text in self.said if name == tag]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def source(results, tmp_path_factory):
    return make_page(results, tmp_path_factory.mktemp("site"), "lora").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def data_of(page: Page) -> dict:
    return json.loads(gzip.decompress(b64decode(page.scripts[-3])))  # before Vega and the page's own


@pytest.mark.slow
def test_equal_results_give_equal_bytes(results, source, tmp_path):
    assert make_page(results, tmp_path, "lora").read_bytes() == source.encode()


def test_every_number_of_the_leaderboard_is_there(results, page):
    (board,) = leaderboards(load_results(results))
    values = {float(each["data-value"]) for each in page.all("td") if "data-value" in each}
    assert len(board.cells) == 2 * 4 * 4
    assert {*board.cells["mean"], *board.references["reference"], *board.costs["trainable_parameters"]} <= values
    for table, digits in zip(board.tables, (1, 3), strict=True):  # of FD above 100, and of recall
        for cell in table.itertuples():
            assert f"{cell.mean:.{digits}f} ± {(cell.high - cell.low) / 2:.{digits}f}" in page.text


def test_numbers_halfway_between_two_printed_ones_are_printed_as_in_tables(tmp_path):
    halves = [0.1005 + 0.05 * each for each in range(12)]
    scores = [
        record(f"method-{rank}", seed, [metric("coverage", "tail", half + 0.001 * (seed - 1))])
        for rank, half in enumerate(halves)
        for seed in range(3)
    ]
    save(tmp_path / "results", *scores)
    text = make_page(tmp_path / "results", tmp_path / "site").read_text()
    (board,) = leaderboards(load_results(tmp_path / "results"))
    shown = [(mean_text(cell, 3), cell["mean"]) for cell in board.cells.to_dict("records")]
    assert all(printed in Page(text).text for printed, _ in shown)
    assert any(not printed.startswith(f"{mean:.3f}") for printed, mean in shown), "or nothing lies halfway"


def test_what_went_wrong_is_told_with_its_reason(page):
    assert f"failed: {BREAKOUT}" in page.text


def test_every_column_says_what_it_is(page):
    headers = [(th["data-metric"], th["title"]) for th in page.all("th") if "data-metric" in th]
    assert [name for name, _ in headers] == ["fd"] * 4 + ["recall"] * 4 + ["cost"] * 3
    meanings = [*(definition(name) for name in ["fd"] * 4 + ["recall"] * 4), *COSTS.values()]
    better = ["Lower is better."] * 4 + ["Higher is better."] * 4 + ["Lower is better."] * 3
    assert [title for _, title in headers] == [f"{each.what} {way}" for each, way in zip(meanings, better, strict=True)]
    assert page.words("dt")[-5:] == ["FD(digits-cnn) ", "recall ", *(f"{title} " for title in COSTS)]
    assert all(each.what in page.text and each.misleads in page.text for each in meanings)


def test_ranks_stand_apart_from_their_scores_and_are_explained(tmp_path):
    save(tmp_path / "results", *separated(name="coverage"))
    page = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    (board,) = leaderboards(load_results(tmp_path / "results"))
    cells = list(board.cells.itertuples())
    assert {cell.label: cell.rank_high for cell in cells} == {"alike": 2, "best": 2, "last": 3}
    shown = {line.strip() for line in page.text.splitlines()}
    ranks = {cell.label: f"{cell.rank_low:.0f}–{cell.rank_high:.0f}{'*' * bool(cell.could_be_best)}" for cell in cells}  # noqa: RUF001
    assert {f"{mean_text(cell._asdict(), 3)} rank {ranks[cell.label]}" for cell in cells} <= shown
    assert "*: could be best" in page.text


def test_leaderboards_that_only_the_protocol_sets_apart_are_told_apart(tmp_path, page):
    runs = [record("grasp", seed, [metric("fd", "tail", 1.0 + seed, lower=True)]) for seed in range(2)]
    runs[1] = runs[1].model_copy(update={"protocol": {"rules": "1.0", "score": "4"}})
    save(tmp_path / "results", *runs)
    apart = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    boards = leaderboards(load_results(tmp_path / "results"))
    titles = [f"digits-lt · protocol {board.protocol}" for board in boards]
    assert len(set(titles)) == 2
    assert apart.words("h2")[:2] == titles
    assert apart.words("a")[1:] == ["all tasks", *titles]  # after the one that skips
    assert apart.text.count(OTHER_PROTOCOL) == 2
    for board in read_boards(found_runs(tmp_path / "results")):
        assert board.table.costs["seeds"].iloc[0] == tuple(run.seed for run in board.runs["grasp"])
    assert "protocol" not in page.words("h2")[0]
    assert OTHER_PROTOCOL not in page.text


def test_what_a_choice_says_is_its_value(page):
    options = page.all("option")
    assert all("value" in each for each in options)  # else a browser takes the text, with its spaces run together
    assert [each["value"] for each in options][-6:] == [*reversed(CLASSES), "0", "1", "2"]
    assert {"=cfg", "=none", "fd", "recall"} <= {each["value"] for each in options}


def test_methods_of_one_colour_differ_in_shape_in_keys_too(tmp_path):
    methods = {f"m{number}": 90.0 + number for number in range(9)}
    source = make_page(make_results(tmp_path / "results", methods, seeds=1), tmp_path / "site").read_text()
    swatch = r'(<span class="swatch s\d" data-mark="(.)"[^>]*></span>)'
    keys = {name: found for name, *found in re.findall(rf'class="key"[^>]* data-method="(\w+)">{swatch}', source)}
    assert keys.keys() == methods.keys()
    assert len({element for element, _ in keys.values()}) == 9
    for name, mark in (("m0", "●"), ("m8", "■")):
        assert 'class="swatch s0"' in keys[name][0]
        assert keys[name][1] == mark


def test_what_scrolls_can_be_reached_and_has_a_name(page):
    scrolled = [each for each in page.all("div") if "scroll" in each.get("class", "").split()]
    assert len(scrolled) > 20
    for each in scrolled:
        assert each["tabindex"] == "0"
        assert each["role"] == "region"
        assert each.get("aria-label") or each.get("aria-labelledby")


def test_hostile_names_are_text(source, page):
    for name in (HOSTILE, PEAR, CLUSTERS[1], f"digits-lt {HOSTILE}"):
        assert name in page.text
    assert all(each["src"].startswith("data:") for each in page.all("img"))
    kinds = [each.get("type") for each in page.all("script")]
    assert set(kinds) == {"application/gzip", None}
    assert kinds.count(None) == 2  # Vega and the page's own
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}
    assert BREAKOUT not in source


def test_nothing_is_asked_of_another_place(source, page):
    links = [each.get(name, "") for _, each in page.elements for name in ("src", "href", "srcset", "action")]
    assert all(link.startswith(("data:", "#")) for link in links if link)
    assert "@import" not in source
    assert "url(" not in page.styles[0]
    assert "style" not in {name for _, attributes in page.elements for name in attributes}  # the policy forbids it


@pytest.mark.slow
def test_what_lies_beside_a_page_is_the_runs_files(results, tmp_path):
    path = make_page(results, tmp_path / "site", single_file=False)
    page = Page(path.read_text())
    data = data_of(page)
    for name in ("record.json", "train.jsonl", "classes.csv"):
        keys = [key for key, names in data["files"].items() if name in names]
        held = [(tmp_path / "site" / data["beside"] / key / name).read_bytes() for key in keys]
        assert sorted(held) == sorted(each.read_bytes() for each in results.rglob(name))
    strips = [each for by_class in data["samples"]["board-1"]["generated"].values() for each in by_class.values()]
    sources = [source for each in strips for source in each]
    first = [source for source in sources if source.startswith("data:")]
    assert first == data["samples"]["board-1"]["generated"]["0"]["quince"]
    assert all((tmp_path / "site" / source).is_file() for source in sources if source not in first)
    written = {each: each.read_bytes() for each in (tmp_path / "site").rglob("*") if each.is_file()}
    make_page(results, tmp_path / "site", single_file=False)  # an earlier page is replaced
    assert written == {each: each.read_bytes() for each in (tmp_path / "site").rglob("*") if each.is_file()}
    make_page(results, tmp_path / "site")
    assert [each.name for each in (tmp_path / "site").iterdir()] == ["index.html"]


@pytest.mark.parametrize("name", ["notes.txt", "index.html", "index_files/mine"])
def test_a_folder_that_holds_anything_else_is_refused(results, tmp_path, name):
    other = tmp_path / name
    other.parent.mkdir(exist_ok=True)
    other.write_text("<html>mine</html>")
    with pytest.raises(UserError, match=rf"--html .*: the folder holds {name.partition('/')[0]}, which the page did"):
        make_page(results, tmp_path)
    assert other.read_text() == "<html>mine</html>"


@pytest.mark.slow
def test_a_call_that_was_killed_leaves_nothing_that_the_next_refuses(tmp_path, monkeypatch):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1)
    site, dead = tmp_path / "site", f"-{2**22 + 1}.tmp"
    with monkeypatch.context() as patch:
        patch.setattr(Beside, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_page(results, site, single_file=False)
    half = temporary_name(tmp_path / "elsewhere" / "index.html").name.rpartition("-")[0] + dead
    again = tmp_path / "again"
    again.mkdir()
    (again / half).write_text("<html>")
    for folder in (site, again):
        make_page(results, folder, single_file=False)
        assert {each.name for each in folder.iterdir()} == {"index.html", "index_files"}


def test_the_policy_allows_its_own_style_and_script_alone(page):
    (policy,) = (each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    for directive, content in (("style-src", page.styles[0]), ("script-src", page.scripts[-2])):
        named = b64encode(sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{named}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")


def test_records_and_logs_are_there_to_the_byte(results, page):
    files = data_of(page)["files"]
    held = {gzip.decompress(b64decode(each["record.json"])) for each in files.values()}
    assert held == {path.read_bytes() for path in results.rglob("record.json")}
    log = next(results.rglob("train.jsonl")).read_bytes()
    assert log in {gzip.decompress(b64decode(each["train.jsonl"])) for each in files.values() if "train.jsonl" in each}


def test_commands_rerun_the_runs(page):
    assert "grasp-bench run --method grasp --task digits-lt --seed 2 --guidance cfg" in page.text


def test_images_of_every_class_and_seed_stand_beside_real_ones(page):
    shown = data_of(page)["samples"]["board-1"]
    assert sorted(shown["generated"]) == ["0", "1", "2"]
    assert set(shown["generated"]["0"]) == set(shown["real"]) == set(CLASSES)
    assert len(shown["methods"]) == 4
    strips = shown["generated"]["0"]["quince"]
    assert len(set(strips)) == 4
    assert all(strip.startswith("data:image/png;base64,") for strip in strips)


def test_charts_are_named_images_with_their_numbers(page):
    charts = [each for each in page.all("div") if each.get("role") == "img"]
    assert len(charts) >= 7  # bars, classes and costs of two metrics, losses, partition, experts
    assert all(each["aria-label"] for each in charts)
    assert page.text.count("The numbers") >= len(charts) - 1  # those of the first screen are the table
    for title in (
        "FD(digits-cnn) of single classes, by their training images",
        "Partition of ",
        "Use of the experts of moe",
    ):
        assert title in page.text


def test_differences_are_those_to_every_baseline(page):
    board = data_of(page)["boards"]["board-1"]
    assert board["baseline"] == "lora"
    found = board["differences"]["fd tail"]
    assert (found["scale"], found["primary"]) == ("log", True)
    row, lora = (board["compared"].index(name) for name in ("grasp", "lora"))
    assert board["differences"]["fd head"]["rows"][lora][row] == 0  # once, from the better row
    difference, low, high = found["rows"][lora][row]
    assert difference == pytest.approx(-0.22, abs=1e-3)  # grasp against lora in the tail
    assert low < difference < high < 0
    assert found["rows"][row][lora][0] == pytest.approx(1 / 0.78 - 1, abs=1e-2)
    assert found["rows"][lora][lora] == 0


def test_a_difference_is_the_same_percent_as_in_tables(tmp_path):
    found = {"scale": "log", "difference": 0.124977, "difference_low": -0.0031, "difference_high": 0.3}
    assert difference_text(found, 0) == "+12 % (\N{MINUS SIGN}0 to +30)"  # the sign of what is rounded to 0 stays
    fd = {"vanilla-ft": 1000, "lora": 1124.977}
    made = [record(name, seed, [metric("fd", "tail", fd[name], lower=True)]) for name in fd for seed in range(3)]
    save(tmp_path / "results", *made)
    board = data_of(Page(make_page(tmp_path / "results", tmp_path / "site").read_text()))["boards"]["board-1"]
    (pairs,) = (each["rows"] for each in board["differences"].values())
    to_vanilla = pairs[board["compared"].index("vanilla-ft")][board["compared"].index("lora")]
    assert f"{100 * to_vanilla[0]:+.0f} %" == "+12 %"


def test_the_real_reference_is_that_of_the_sentence_where_other_rows_have_another(tmp_path):
    for label, floor in (("a", 20.0), ("b", 90.0)):
        scores = [metric("fd", "tail", floor + 1, lower=True, floor=floor)]
        save(tmp_path / "results", record("grasp", 0, scores, label=label))
    page = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    (board,) = data_of(page)["boards"].values()
    assert len(board["rows"]) == 2
    assert board["references"][0].startswith("20.0")
    assert f"(real reference {board['references'][0]})" in page.text


def test_what_a_page_draws_from_is_packed_and_templates_are_not_indented(source, page):
    assert len(page.scripts[-3]) < 0.8 * len(json.dumps(data_of(page)))  # most of it are records, packed before
    assert not re.search(r"^ +<", source.partition('id="data"')[0], flags=re.MULTILINE)


def test_the_first_sentence_is_made_from_the_data(page):
    (board,) = data_of(page)["boards"].values()
    said = {(each["key"], each["group"]): each["said"] for each in board["columns"]}
    assert said["fd", "tail"].startswith(
        "grasp has the lowest mean FD(digits-cnn) in the tail, 105.5 ± 2.5 (real reference 22.0). It is better than "
    )
    assert said["fd", "tail"] in page.text
    assert said["recall", "head"].startswith(f"{HOSTILE} has the highest mean recall in the head, 0.531")


def test_a_table_has_one_row_per_method_and_all_on_request(tmp_path):
    for guidance, label in (("cfg", "grasp"), ("none", "grasp+none")):
        for seed in range(3):
            made = record("grasp", seed, [metric("fd", "tail", 9.0 + seed, lower=True)], label=label)
            spec = made.spec.model_copy(update={"guidance": Component(name=guidance, version="1")})
            save(tmp_path / "results", made.model_copy(update={"spec": spec, "run_id": spec.id}))
    (board,) = data_of(Page(make_page(tmp_path / "results", tmp_path / "site").read_text()))["boards"].values()
    assert {row["label"]: row["chosen"] for row in board["rows"]} == {"grasp": True, "grasp+none": False}


def test_a_baseline_that_is_no_row_is_refused(results, tmp_path):
    with pytest.raises(UserError, match=r"--baseline lorra: .* Did you mean 'lora'"):
        make_page(results, tmp_path, "lorra")


@pytest.mark.slow
def test_tasks_together_are_ranked(tmp_path):
    methods = {"grasp": 90.0, "lora": 120.0, "moe": 101.0}
    for task in ("one", "two", "three"):
        make_results(tmp_path / "results", methods, seeds=2, task=task)
    page = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    assert "Over all tasks" in page.text
    assert "over 3 tasks" in page.text
    assert (
        "Mean ranks, best first: grasp 1.00, moe 2.00, lora 3.00. Critical difference: 1.91. "  # 2.343 √(3 · 4 / 6 · 3)
        "Not significantly different: grasp, moe; moe, lora."
    ) in page.words("desc")
    assert "Its 95 % interval resamples the seeds of each task." in page.text
    assert [each["href"] for each in page.all("a") if "board" in each["href"]] == ["#board-1", "#board-2", "#board-3"]


def test_no_runs_make_a_page_that_says_so(tmp_path):
    assert "No runs yet" in Page(make_page(tmp_path, tmp_path / "site").read_text()).text


def test_failures_alone_make_a_page(tmp_path):
    page = Page(make_page(make_results(tmp_path / "results", seeds=0), tmp_path / "site").read_text())
    assert "No run has scores yet." in page.text
    assert BREAKOUT in page.text


def test_a_score_that_no_group_was_large_enough_for_has_no_bars(tmp_path):
    scores = [metric("fd", "tail", None, lower=True), metric("recall", "tail", 0.5)]
    save(tmp_path / "results", *(record(name, 0, scores) for name in ("grasp", "lora")))
    page = make_page(tmp_path / "results", tmp_path / "site").read_text()
    assert "n too small" in Page(page).text
    assert "0.500" in Page(page).text


def test_the_best_row_of_each_method_is_in_colour(tmp_path):
    means = {"grasp": 80.0, "lora": 90.0}
    for label, value in means.items():
        method = label.partition("+")[0]
        save(tmp_path / "results", record(method, 0, [metric("fd", "tail", value, lower=True)], label=label))
    page = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    keys = {each["data-method"]: each["aria-pressed"] for each in page.all("button") if each.get("class") == "key"}
    assert keys == {"grasp": "true", "lora": "true"}


def test_rows_have_columns_for_method_guidance_settings_and_seeds(tmp_path):
    changed = {"method": {"rank": 8}, "guidance": {"low_scale": 1, "high_scale": 2}}
    tuned = Tuning(trials=8, best=3, settings={"learning_rate": 0.1})
    for seed in range(2):
        scores = [metric("fd", "tail", 9.0, lower=True)]
        save(tmp_path / "results", record("grasp", seed, scores, label="packed", changed=changed, tuned=tuned))
    page = Page(make_page(tmp_path / "results", tmp_path / "site").read_text())
    said = [text for text in page.words("td") if text.strip()]
    assert said[:4] == ["cfg", "tuned=8, low_scale=1, high_scale=2, rank=8", "closed", "2, provisional"]
    heads = [each for each in page.words("th") if each.strip()]
    assert heads[:5] == ["Method", "Guidance", "Settings", "Division", "Seeds"]


def test_what_cannot_be_read_is_left_out_and_named(tmp_path):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1)
    place = results / "digits-lt" / "method-0" / "seed-0"
    (place / "classes.csv").write_text("class,group\nx,y\n")
    (place / "train.jsonl").write_bytes(b"\xff\xfe")
    (place / "partition.json").write_text("[]")
    (place / "generated.png").write_bytes(b"no picture")
    text = Page(make_page(results, tmp_path / "site").read_text()).text
    for name in ("classes.csv", "train.jsonl", "partition.json"):
        assert f"digits-lt/method-0/seed-0/{name}: cannot be read." in text
    assert "generated.png: not a sheet of images" in text


HEADER = "class,group,train_images,metric,n,value,floor,low,high\n"


UNREADABLE = [
    ("train.jsonl", "[" * 100_000),
    ("train.jsonl", '{"step": 1, "group_loss": {"head": "x"}}'),
    ("train.jsonl", '{"step": 1, "group_loss": {"head": 1e999}}'),
    ("train.jsonl", '{"step": "nan", "group_loss": {"head": 1}}'),
    ("train.jsonl", '{"step": 1, "group_loss": []}'),
    ("classes.csv", HEADER + f"apple,head,{'9' * 400},fd,3,1,1,1,1\n"),
    ("classes.csv", HEADER + f"{'a' * 200_000},head,9,fd,3,1,1,1,1\n"),
    ("partition.json", "[" * 100_000),
    ("partition.json", '{"clusters": ["a", "b"], "classes": {}}'),
    ("partition.json", '{"clusters": ["a", "b"], "classes": {"apple": 0}, "images": {"apple": [-1, 2]}}'),
    ("partition.json", f'{{"clusters": ["a", "b"], "classes": {{"apple": 0}}, "images": {{"apple": [{9**99}, 2]}}}}'),
]


def test_content_that_nothing_can_be_drawn_from_is_left_out_and_named(tmp_path):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=len(UNREADABLE))
    for seed, (name, content) in enumerate(UNREADABLE):
        (results / "digits-lt" / "method-0" / f"seed-{seed}" / name).write_text(content)
    text = Page(make_page(results, tmp_path / "site").read_text()).text
    for seed, (name, _) in enumerate(UNREADABLE):
        assert f"digits-lt/method-0/seed-{seed}/{name}: cannot be read." in text


def test_half_a_surrogate_pair_is_shown_by_its_number(tmp_path):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1)
    rows = [{"step": step, "group_loss": {"\ud800": 1.0}} for step in (1, 2)]
    log = results / "digits-lt" / "method-0" / "seed-0" / "train.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "\\ud800" in make_page(results, tmp_path / "site").read_text()


@pytest.mark.parametrize("usage", [{}, {"head": []}, {"head": [float("inf"), 0.5], "tail": "x"}])
def test_experts_without_shares_are_not_drawn(tmp_path, usage):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1)
    path = results / "digits-lt" / "method-0" / "seed-0" / "record.json"
    steps = [{"step": step, "expert_usage": usage} for step in (50, float("inf"))]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"diagnostics": steps}).replace("Infinity", "1e999"))
    text = Page(make_page(results, tmp_path / "site").read_text()).text
    assert ("Use of the experts" in text) == (len(usage) > 1)


def test_a_class_without_real_images_is_shown_without(tmp_path):
    results = make_results(tmp_path / "results", {"grasp": 90.0}, seeds=1)
    images = {"apple": np.zeros((2, 1, 8, 8), np.uint8), "quince": np.zeros((0, 1, 8, 8), np.uint8)}
    write_sheet(results / "digits-lt" / "method-0" / "seed-0" / REAL_SHEET, images)
    page = Page(make_page(results, tmp_path / "site").read_text())
    assert "none kept" in page.text
    assert [each["alt"] for each in page.all("img")] == ["Images of class quince by grasp, seed 0"]


def test_runs_beyond_what_a_page_holds_are_counted(results, tmp_path, monkeypatch):
    monkeypatch.setattr("grasp_bench.results.site.beside.MOST_BYTES", 10_000)
    page = Page(make_page(results, tmp_path).read_text())
    held = len(data_of(page)["files"])
    assert 0 < held < 13
    assert f"Records and logs of {13 - held} runs, which lie in the results folder." in page.text


def test_images_beyond_what_a_page_holds_are_counted_and_the_rarest_are_kept(results, tmp_path, monkeypatch):
    monkeypatch.setattr("grasp_bench.results.site.samples.MOST_BYTES", 4_000)
    page = Page(make_page(results, tmp_path).read_text())
    shown = data_of(page)["samples"]["board-1"]["generated"]
    kept = sum(map(len, shown.values()))
    assert 0 < kept < 9
    assert "quince" in shown["0"]
    assert f"Images of {9 - kept} of 9 classes and seeds." in page.text
