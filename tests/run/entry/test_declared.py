"""What the file of an entry may declare."""

from pathlib import Path

import pytest

from grasp_bench.contracts.entry import Facts, read_facts
from grasp_bench.errors import UserError


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('link = "javascript:alert(1)"', "link='javascript:alert.*: String should match pattern"),
        ('link = "https://a b"', "link=.*: String should match pattern"),
        (f'notes = "{"n" * 501}"', "notes=.*: String should have at most 500 characters"),
    ],
)
def test_links_are_of_the_web_and_texts_have_an_end(line: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text(f"{line}\n")
    with pytest.raises(UserError, match=rf"facts\.toml, {fault}"):
        read_facts(tmp_path / "facts.toml")


def test_what_is_declared_is_read_and_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text('link = "https://example.org/model"\nnfe = 28\ntrainer = ""\n')
    facts = read_facts(tmp_path / "facts.toml")
    assert facts == Facts(link="https://example.org/model", nfe=28)
    assert facts.words == {"nfe": "28", "link": "https://example.org/model"}
