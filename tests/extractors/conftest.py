from importlib.metadata import EntryPoint

import pytest

from grasp_bench import plugins

BUILT_IN = {
    "digits-cnn": "digits_cnn:DigitsCNN",
    "dinov2": "timm_model:DinoV2",
    "hf": "hf:HuggingFace",
    "inception": "inception:Inception",
    "pixels": "pixels:Pixels",
    "timm": "timm_model:Timm",
    "torchscript": "torchscript:TorchScript",
}


@pytest.fixture(autouse=True)
def built_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, EntryPoint]:
    """The built-in extractors and no others, whatever is installed beside them."""
    group = "grasp_bench.extractors"
    known = {name: EntryPoint(name, f"{group}.{value}", group) for name, value in BUILT_IN.items()}
    claims = {name: [entry] for name, entry in known.items()}
    monkeypatch.setattr(plugins, "_claims", lambda kind: claims)
    return known
