import pytest

from grasp_bench import plugins

from . import sweeps


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """Every sweep runs in an empty folder, with the probe method installed."""
    sweeps.install_probe(tmp_path / "site", monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    yield home
    plugins._claims.cache_clear()
