"""Tables and lists: what is read as it stands, and what becomes a problem."""

import gzip
from pathlib import Path

import pytest

from grasp_bench.data.listing import Problem, find_file, leads_out, read_table, read_text
from grasp_bench.errors import UserError


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    ["id,name\na,x\nb,y\n", "id,name\na,x\nb,y", "\ufeffid,name\r\na,x\r\nb,y\r\n", '"id","name"\n"a","x"\n"b","y"'],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_the_same_table_in_any_dress(tmp_path: Path, text: str, zipped: bool) -> None:
    data = gzip.compress(text.encode()) if zipped else text.encode()
    table = read_table(written(tmp_path / f"a.csv{'.gz' * zipped}", data), ["id", "name"])
    assert table.header == ["id", "name"]
    assert [(row.line, row.values) for row in table.rows] == [(2, ["a", "x"]), (3, ["b", "y"])]
    assert table.problems == []


def test_each_bad_row_is_one_problem_and_the_others_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "id,name,note\na,x,\nb\n\nc,,n\nd,y,n,m\ne,z,n\n")
    table = read_table(path, ["id", "name"])
    assert [row.values[0] for row in table.rows] == ["a", "e"]
    assert table.problems == [
        Problem("wrong width", f"{path}, line 3", "1 values, expected 3: id, name, note"),
        Problem("blank line", f"{path}, line 4", "nothing, expected 3 values"),
        Problem("empty value", f"{path}, line 5", "nothing under 'name'"),
        Problem("wrong width", f"{path}, line 6", "4 values, expected 3: id, name, note"),
    ]


@pytest.mark.parametrize(
    ("content", "kind", "found"),
    [
        ("", "no rows", "the file is empty"),
        ("id,name\n", "no rows", "then holds no line"),
        ("id,id,name\na,b,c\n", "repeated column", "'id' is there 2 times"),
        ("id\na\n", "missing column", "'name' is not among id"),
        (b"id,name\n\xff,x\n", "unreadable file", "as text in UTF-8"),
        ('id,name\n"a,x\n', "unreadable file", "as CSV"),
    ],
)
def test_files_without_a_row_to_use(tmp_path: Path, content: str | bytes, kind: str, found: str) -> None:
    table = read_table(written(tmp_path / "a.csv", content), ["id", "name"])
    assert table.rows == []
    (problem,) = table.problems
    assert problem.kind == kind
    assert problem.where.startswith(str(tmp_path / "a.csv"))
    assert found in problem.found


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    whole = gzip.compress(b"id,name\n" + bytes(range(32, 96)) * 50)
    for content in (whole[:-20], b"id,name\n"):
        path = written(tmp_path / "a.csv.gz", content)
        (problem,) = read_table(path).problems
        assert (problem.kind, problem.where) == ("unreadable file", str(path))
    with pytest.raises(UserError, match=r"b\.txt: there is no such file"):
        read_text(tmp_path / "b.txt")


def test_the_first_folder_that_has_the_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    missing = find_file(tmp_path, ["", "labels"], "a.csv")
    assert isinstance(missing, Problem)
    assert missing.kind == "missing file"
    assert str(tmp_path / "labels") in missing.found
    inner = written(tmp_path / "labels" / "a.csv.gz", "")
    assert find_file(tmp_path, ["", "labels"], "a.csv") == inner
    outer = written(tmp_path / "a.csv", "")
    assert find_file(tmp_path, ["", "labels"], "a.csv") == outer


@pytest.mark.parametrize(
    ("path", "out"),
    [
        ("files/p1/a.jpg", False),
        ("files/a..b.jpg", False),
        ("../a.jpg", True),
        ("files/../../a.jpg", True),
        ("/etc/passwd", True),
        ("a\\b/a.jpg", False),
        ("a: b/a.jpg", False),
    ],
)
def test_paths_that_lead_out(path: str, out: bool) -> None:
    assert leads_out(path) is out
