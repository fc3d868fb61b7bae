import sys
import zipfile

import pytest

from grasp_bench.cli import main


@pytest.mark.parametrize(("name", "fault"), [("../evil.json", "leads out of the pack"), ("stages/a.pkl", "pickles")])
def test_a_hostile_pack_is_one_message_and_exit_code_2(tmp_path, monkeypatch, capsys, name, fault):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(name, b"cos\nsystem\n(S'touch owned'\ntR.")
    monkeypatch.setattr(sys, "argv", ["grasp-bench", "verify", str(tmp_path / "p.zip")])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {tmp_path / 'p.zip'}: refused: {name}")
    assert fault in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.zip"]
