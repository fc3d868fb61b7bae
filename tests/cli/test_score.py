"""`grasp-bench score` from end to end: folders, .npz and .safetensors in, a table and JSON out."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from grasp_bench.cli import app
from grasp_bench.data.features import FeatureSet, read_features, write_features
from grasp_bench.errors import UserError

COUNTS = {"cat": 24, "dog": 20, "eel": 16}
IDENTITY = {"extractor": "some", "version": "1", "weights": "none"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def score(*arguments):
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--draws", "2"])


def scored(*arguments):
    shown = score(*arguments, "--json", "out.json")
    assert shown.exit_code == 0, shown.exception
    return json.loads(Path("out.json").read_text()), shown.stdout


def mistake(*arguments) -> str:
    error = score(*arguments).exception
    assert isinstance(error, UserError), error
    return str(error)


def folder(path: str, seed: int, counts=COUNTS) -> Path:
    random = np.random.RandomState(seed)
    for position, (name, count) in enumerate(counts.items()):
        (Path(path) / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.randint(20 * position, 120 + 20 * position, (6, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(Path(path) / name / f"{index}.png")
    return Path(path)


def feature_set(seed: int, counts=COUNTS, width=5, ids=True, shift=0.0, identity=None) -> FeatureSet:
    labels = [name for name, count in counts.items() for _ in range(count)]
    values = np.random.RandomState(seed).randn(len(labels), width) + 3 + shift
    return FeatureSet(values, labels, [f"{seed}-{row:03}" for row in range(len(labels))] if ids else None, identity)


@pytest.fixture
def files():
    """real.safetensors and fake.safetensors."""
    write_features(Path("real.safetensors"), feature_set(0, identity=IDENTITY))
    write_features(Path("fake.safetensors"), feature_set(1, shift=0.5, identity=IDENTITY))
    return "real.safetensors", "fake.safetensors"


def values(payload, fields=("scope", "name", "metric", "n", "value", "reference", "spread")):
    return [tuple(row[field] for field in fields) for row in payload["rows"]]


def assert_close(first, second):
    assert [row[:4] for row in values(first)] == [row[:4] for row in values(second)]
    for a, b in zip(values(first), values(second), strict=True):
        assert a[4:] == pytest.approx(b[4:], rel=1e-5, abs=1e-9)


def test_folders_with_groups():
    real, fake = folder("real", 0), folder("fake", 1)
    (real / "notes.txt").write_text("")
    Path("groups.csv").write_text("class,group\ncat,head\ndog,tail\neel,tail\n")
    payload, shown = scored(real, fake, "--extractor", "pixels", "--groups", "groups.csv", "--per-class")
    assert payload["groups"] == {"head": ["cat"], "tail": ["dog", "eel"], "all": ["cat", "dog", "eel"]}
    assert payload["extractor"]["weights"] == "none"
    assert "32x32" in payload["extractor"]["resize"]
    assert payload["n"] == 12
    assert payload["seed"] == 0
    assert payload["real"]["ignored_files"] == {"not recognised as a picture": ["notes.txt"]}
    assert {row["metric"] for row in payload["rows"]} == {
        *("fd", "kid", "precision", "recall", "density", "coverage", "vendi", "irs", "irs_adjusted")
    }
    for text in ("notes.txt", "FD", "(pixels)", "worst class", "mean of 2 of 2 classes", "n = 12", "held-out"):
        assert text in shown
    assert "FID" not in shown


def test_the_table_shows_what_the_json_holds(files):
    payload, shown = scored(*files, "--per-class")
    rows = {(row["scope"], row["name"], row["metric"]): row for row in payload["rows"]}
    lines = shown.splitlines()
    assert len(rows) == len(payload["rows"])
    for name, kind in (("all", "group"), ("cat", "class"), ("eel", "class")):
        cells, others = (re.split(r"\s+", line.strip()) for line in lines if re.match(rf"\s*{name}\s+\d", line))
        fd = rows[kind, name, "fd"]
        shown_fd = [float(cell) for cell in cells[2:5]]
        assert int(cells[1]) == fd["n"]
        assert shown_fd == pytest.approx([fd["value"], fd["reference"], fd["value"] - fd["reference"]], abs=6e-4)
        expected = [rows[kind, name, metric]["value"] for metric in ("irs", "irs_adjusted")]
        assert [float(cell) for cell in others[-2:]] == pytest.approx(expected, abs=6e-4)
    assert fd["excess"] == fd["value"] - fd["reference"]
    assert rows["group", "all", "kid"]["standard_error"] > 0


def test_order_and_batch_size_do_not_matter(files):
    real, fake = folder("real", 0), folder("fake", 1)
    first, _ = scored(real, fake, "--extractor", "pixels", "--batch-size", 3, "--cache-dir", "a")
    assert_close(first, scored(real, fake, "--extractor", "pixels", "--batch-size", 50, "--cache-dir", "b")[0])
    found = feature_set(1, shift=0.5, identity=IDENTITY)
    order = np.random.RandomState(7).permutation(len(found.labels))
    shuffled = FeatureSet(found.features[order], *([s[i] for i in order] for s in (found.labels, found.ids)), IDENTITY)
    write_features(Path("shuffled.safetensors"), shuffled)
    assert values(scored(*files)[0]) == values(scored(files[0], "shuffled.safetensors")[0])
    np.savez("plain.npz", features=found.features, labels=found.labels)
    np.savez("mixed.npz", features=found.features[order], labels=np.array(found.labels)[order])
    assert values(scored(files[0], "plain.npz")[0]) == values(scored(files[0], "mixed.npz")[0])


def test_references_are_the_same_for_every_fake(files):
    write_features(Path("other.safetensors"), feature_set(5, shift=4.0, identity=IDENTITY))
    fields = ("scope", "name", "metric", "reference")
    first, second = (scored(files[0], fake)[0] for fake in (files[1], "other.safetensors"))
    pooled = [[row for row in values(each, fields) if row[0] in ("group", "class")] for each in (first, second)]
    assert pooled[0] == pooled[1]


def test_features_that_were_written_score_as_the_images_do():
    real, fake = folder("real", 0), folder("fake", 1)
    first, _ = scored(real, fake, "--extractor", "pixels", "--features-out", "f.safetensors")
    assert read_features(Path("f.real.safetensors")).extractor == first["extractor"]
    again, _ = scored("f.real.safetensors", "f.fake.safetensors")
    assert again["extractor"] == first["extractor"]
    assert values(again) == values(first)
    assert values(scored(real, "f.fake.safetensors", "--extractor", "pixels")[0]) == values(first)


def test_without_labels_there_is_one_row():
    pixels = np.random.RandomState(0).randint(1, 255, (40, 5, 5, 3), dtype=np.uint8)
    np.savez("real.npz", images=pixels[:24])
    np.savez("fake.npz", images=pixels[24:])
    payload, shown = scored("real.npz", "fake.npz", "--extractor", "pixels", "--metrics", "fd,prdc")
    assert {(row["scope"], row["name"], row["n"]) for row in payload["rows"]} == {("group", "all", 12)}
    assert "worst" not in shown
    assert "no classes" in mistake("real.npz", "fake.npz", "--per-class")


def test_a_small_class_is_shown_and_not_scored(files):
    counts = {"cat": 24, "dog": 20, "eel": 6}
    write_features(Path("few.safetensors"), feature_set(0, counts, identity=IDENTITY))
    payload, shown = scored("few.safetensors", files[1], "--per-class")
    eel = [row for row in payload["rows"] if (row["scope"], row["name"]) == ("class", "eel")]
    assert {row["value"] for row in eel} == {None}
    assert {row["reason"] for row in eel} == {"n too small (n=3)"}
    assert re.search(r"eel\s+n too small \(n=3\)", shown)
    assert "eel (n=3)" in shown
    assert "mean of 2 of 3 classes" in shown


def test_head_and_tail_by_the_number_of_real_images(files):
    payload, _ = scored(*files, "--head-above", 20, "--tail-below", 20)
    assert payload["groups"] == {"head": ["cat"], "medium": ["dog"], "tail": ["eel"], "all": ["cat", "dog", "eel"]}
    assert {row["n"] for row in payload["rows"] if row["scope"] == "group"} == {8}
    assert {row["n"] for row in scored(*files, "--n-equal", 7)[0]["rows"]} == {7}


def test_one_labels_file_for_both_and_patients(files):
    for name in files:
        found = read_features(Path(name))
        write_features(Path(name), FeatureSet(found.features, None, found.ids, found.extractor))
    rows = [f"{s}-{row:03},{'ab'[row % 2]},{row // 4}" for s in (0, 1) for row in range(sum(COUNTS.values()))]
    Path("labels.csv").write_text("\n".join(["id,label,patient_id", *rows]))
    arguments = (*files, "--labels", "labels.csv", "--bootstrap", 20, "--cluster-by", "patient_id")
    payload, shown = scored(*arguments, "--metrics", "fd,kid")
    found = payload["rows"][0]["bootstrap"]
    assert found["real_unit"] == found["fake_unit"] == "patient_id"
    assert 2 <= found["real_units"] <= 15
    assert found["low"] <= payload["rows"][0]["value"] <= found["high"]
    assert "units (patient_id, patient_id)" in shown
    assert f"{found['real_units']}, {found['fake_units']}\n" in shown
    assert "Did you mean 'patient_id'" in mistake(*arguments[:-1], "patient")
    assert "without --bootstrap" in mistake(*files, "--labels", "labels.csv", "--cluster-by", "patient_id")
    assert "'0-000' is an image of REAL" in mistake(files[0], files[0], "--labels", "labels.csv")


def test_copies_of_training_images_are_named(files):
    fake = read_features(Path(files[1]))
    train = feature_set(3, identity=IDENTITY)
    train.features[4] = fake.features[7]
    train.features[9] = fake.features[2] + 1e-3
    write_features(Path("train.safetensors"), train)
    payload, shown = scored(*files, "--train", "train.safetensors", "--near", 0)
    assert payload["copies"] == [{"fake": "1-007", "train": "3-004", "distance": 0, "ratio": 0}]
    assert "1-007 ~ 3-004 (0)" in shown
    near = scored(*files, "--train", "train.safetensors")[0]["copies"]
    assert [(pair["fake"], pair["train"]) for pair in near] == [("1-007", "3-004"), ("1-002", "3-009")]
    assert near[1]["distance"] == pytest.approx(1e-3 * 5**0.5)
    assert 0 < near[1]["ratio"] < 0.1
    assert "--near 0.2" in mistake(*files, "--near", 0.2)
    assert "authenticity" in {row["metric"] for row in payload["rows"]}
    assert "--train" in mistake(*files, "--metrics", "authenticity")


def test_training_images_may_have_a_labels_file_of_their_own(files):
    train = feature_set(3, identity=IDENTITY)
    write_features(Path("train.safetensors"), train)
    expected = values(scored(*files, "--train", "train.safetensors")[0])
    write_features(Path("plain.safetensors"), FeatureSet(train.features, None, train.ids, IDENTITY))
    rows = [f"{name},{label}" for name, label in zip(train.ids, train.labels, strict=True)]
    Path("train.csv").write_text("\n".join(["id,label", *rows]))
    assert values(scored(*files, "--train", "plain.safetensors", "--train-labels", "train.csv")[0]) == expected
    assert "there are no training images" in mistake(*files, "--train-labels", "train.csv")


def test_distance_at_infinite_counts_and_intervals_of_irs(files):
    write_features(Path("many.safetensors"), feature_set(7, {"cat": 60, "dog": 60, "eel": 60}, identity=IDENTITY))
    payload, shown = scored("many.safetensors", files[1], "--metrics", "fd,irs")
    (row,) = [row for row in payload["rows"] if row["scope"] == "group" and row["metric"] == "irs"]
    low, high = row["exact"]
    assert low <= row["value"] <= high
    assert "its own" not in shown  # it is none of diversity
    assert {"low", "high"}.isdisjoint(row)  # ends over draws, which share most of their images
    assert "spread" in row
    assert "spread over draws" in shown
    assert "28" in mistake(*files, "--metrics", "fd_inf")
    write_features(
        Path("fake.safetensors"), feature_set(8, {"cat": 30, "dog": 30, "eel": 30}, shift=0.5, identity=IDENTITY)
    )
    payload, shown = scored("many.safetensors", "fake.safetensors", "--metrics", "fd,fd_inf", "--draws", 3)
    found = {row["metric"]: row["value"] for row in payload["rows"] if row["scope"] == "group"}
    assert found["fd_inf"] < found["fd"]
    assert "FD∞" in shown


def test_features_that_are_all_the_same_are_scored_and_told(files):
    collapsed = feature_set(1, identity=IDENTITY)
    collapsed.features[:] = 1
    write_features(Path("collapsed.safetensors"), collapsed)
    payload, shown = scored(files[0], "collapsed.safetensors")
    found = {row["metric"]: row["value"] for row in payload["rows"] if row["scope"] == "group"}
    assert (found["vendi"], found["recall"]) == pytest.approx((1, 0))
    assert found["irs"] == pytest.approx(1 / payload["n"])
    assert "FAKE (collapsed.safetensors): all 60 images have the same features." in " ".join(shown.split())


def saved(name: str, found: FeatureSet) -> str:
    write_features(Path(name), found)
    return name


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"counts": {"cat": 20, "dog": 20}}, ["only in REAL", "eel"]),
        ({"counts": COUNTS | {"fox": 9}}, ["only in FAKE", "fox"]),
        ({"counts": COUNTS | {"eel": 1}}, ["too few images", "class 'eel' has 16 real and 1 generated", "n = 5"]),
        ({"width": 4}, ["width 5", "width 4"]),
        ({"identity": IDENTITY | {"weights": "else"}}, ["not of one extractor", "weights: none / else"]),
    ],
    ids=lambda value: str(value),
)
def test_sets_that_do_not_fit(files, change, parts):
    message = mistake(files[0], saved("odd.safetensors", feature_set(1, **({"identity": IDENTITY} | change))))
    for part in parts:
        assert part in message


def test_rows_that_are_not_numbers_or_have_no_direction(files):
    found = feature_set(1, identity=IDENTITY)
    found.features[3] = 0
    message = mistake(files[0], saved("zero.safetensors", found))
    assert "1-003" in message
    assert "vendi" in message
    found.features[3] = np.nan
    assert "NaN or infinity in 1 of 60 rows" in mistake(files[0], saved("nan.safetensors", found))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--extractor", "pixels"], ["--extractor", "hold features"]),
        (["--metrics", "fd,vndi"], ["'vndi'", "Did you mean 'vendi'?", "authenticity"]),
        (["--n-equal", "many"], ["--n-equal many", "auto"]),
        (["--n-equal", "500"], ["class 'eel' has 16 real", "n = 500"]),
        (["--n-equal", "3"], ["k = 5"]),
        (["--head-above", "9"], ["--tail-below", "both"]),
        (["--head-above", "9", "--tail-below", "20"], ["could be both"]),
        (["--labels", "a.csv", "--real-labels", "b.csv"], ["Give either"]),
        (["--features-out", "f.npz"], [".safetensors"]),
        (["--train", "x.npz", "--metrics", "fd"], ["--train", "irs or authenticity"]),
        (["--groups", "none.csv"], ["none.csv", "no such file"]),
        (["--labels", "none.csv"], ["none.csv"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_mistakes_in_options(files, arguments, parts):
    message = mistake(*files, *arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("class,group\ncat,a\ndog,a\n", "no group for 1 of 3 classes: eel"),
        ("class,group\ncat,a\ndgo,a\n", "line 3: class 'dgo' has no images. Did you mean 'dog'?"),
        ("class,group\ncat,a\ncat,b\n", "line 3: 'cat' was on line 2 already"),
        ("class,group\ncat,all\n", 'may be called "all"'),
        ("class,group\ncat\n", "line 2: 1 values for 2 columns (class, group)"),
        ("name,group\ncat,a\n", "line 1: no column for the class among name, group"),
        ("", "is empty. Its first line names the columns, such as: class,group"),
    ],
)
def test_mistakes_in_groups(files, text, part):
    Path("groups.csv").write_text(text)
    assert part in mistake(*files, "--groups", "groups.csv")


NFC, NFD = "caf\u00e9", "cafe\u0301"
HINT = r" looks like 'caf\xe9' and differs in its Unicode normal form alone, as names of files from macOS may."


def test_names_in_another_unicode_normal_form_are_told_escaped():
    for role, name in (("real", NFC), ("fake", NFD)):
        folder(role, 0, {name: 8, "dog": 8})
    assert rf"'cafe\u0301'{HINT} Write it as 'caf\xe9'." in mistake("real", "fake", "--extractor", "pixels")
    Path("fake", NFD).rename(Path("fake", NFC))
    Path("groups.csv").write_text(f"class,group\n{NFD},tail\ndog,head\n")
    words = ("real", "fake", "--extractor", "pixels", "--groups", "groups.csv")
    assert HINT in mistake(*words)
    for path in Path("fake", NFC).iterdir():
        path.rename(path.with_name(f"{NFC}-{path.name}"))
    rows = (f"{path.relative_to('fake')},x" for path in sorted(Path("fake").glob("*/*.png")))
    Path("fake.csv").write_text("\n".join(["file,label", *rows]).replace(NFC, NFD))
    assert "differs in its Unicode normal form alone" in mistake("real", "fake", "--fake-labels", "fake.csv")
    Path("fake.csv").write_text(f"file,label\n{NFD}/{NFD}-0.png,x\n")
    assert "differs in its Unicode normal form alone" in mistake("real", "fake", "--labels", "fake.csv")


def test_features_beside_images_must_say_their_extractor(files):
    real = folder("images", 0)
    np.savez("unsaid.npz", features=np.ones((60, 3072)), labels=feature_set(0).labels)
    assert "does not say which extractor" in mistake(real, "unsaid.npz", "--extractor", "pixels")
    assert "not of one extractor" in mistake(real, files[1], "--extractor", "pixels")
    assert "unknown extractor" in mistake(real, real, "--extractor", "pixel")
    assert "has labels and" in mistake(real, real / "cat", "--extractor", "pixels")


def test_fid_is_the_name_with_the_inception_weights_alone():
    from grasp_bench.extractors.inception import SHA256

    identity = {"extractor": "inception", "weights": SHA256}
    for each, title in ((identity, "FID"), (identity | {"weights": "other"}, "FD(inception)"), (None, "FD")):
        for name, seed in (("a", 0), ("b", 1)):
            write_features(Path(f"{name}.safetensors"), feature_set(seed, identity=each))
        payload, _ = scored("a.safetensors", "b.safetensors", "--metrics", "fd")
        assert {row["label"] for row in payload["rows"]} == {title}


def test_help_imports_nothing_heavy_and_has_an_example():
    code = (
        "import sys; from grasp_bench.cli import main; sys.argv = ['grasp-bench', 'score', '--help']\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "grasp-bench score real/ generated/" in shown


def test_a_mistake_is_one_message_and_code_2(files):
    code = "import sys; from grasp_bench.cli import main; sys.argv[:1] = ['grasp-bench', 'score']; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code, *files, "--k", "99"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("error: too few images: class 'eel' has 16 real and 16 generated images")
    assert shown.stderr.count("\n") == 1


def test_a_folder_with_a_labels_file_of_its_own():
    for role, seed in (("real", 0), ("fake", 1)):
        folder(role, seed)
        rows = [
            f"{name}/{index}.png,{'odd' if index % 2 else 'even'}" for name in COUNTS for index in range(COUNTS[name])
        ]
        Path(f"{role}.csv").write_text("\n".join(["file,label", *rows]))
    own = ("--real-labels", "real.csv", "--fake-labels", "fake.csv")
    payload, _ = scored("real", "fake", "--extractor", "pixels", *own, "--metrics", "fd")
    assert payload["groups"]["all"] == ["even", "odd"]
    Path("real.csv").write_text("file,label\ncat/0.png,x\n")
    assert "no label for 59 of the 60 images" in mistake("real", "fake", "--extractor", "pixels", *own)
