"""Every method and every guidance keeps its whole contract on every family of saved pipelines: `make test-families`."""

from __future__ import annotations

import pytest
from families import SAVE, Family, save
from helpers.quick import quick, quick_guidance

from grasp_bench import plugins
from grasp_bench.testing import Check, guidance_checks, method_checks, run_checks

pytestmark = pytest.mark.families


@pytest.fixture(scope="module", params=sorted(SAVE))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return save(request.param, tmp_path_factory.mktemp(request.param))


def assert_kept(checks: list[Check]) -> None:
    outcomes = run_checks(checks).outcomes
    assert outcomes
    assert not [f"{each.name}: {each.found}" for each in outcomes if each.status == "failed"]


@pytest.mark.parametrize("method", sorted(plugins.entries("methods")))
def test_a_method_keeps_its_contract(family: Family, method: str) -> None:
    assert_kept(method_checks(method, quick(method), [family.source]))


@pytest.mark.parametrize("guidance", sorted(plugins.entries("guidance")))
def test_a_guidance_keeps_its_contract(family: Family, guidance: str) -> None:
    assert_kept(guidance_checks(guidance, quick_guidance(guidance), [family.source]))
