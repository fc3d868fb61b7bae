"""Saved pipelines whose files hold values of another form: one message that names the folder or the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from helpers.tiny_pipelines import save_sd3

from grasp_bench.errors import UserError
from grasp_bench.run.entry.pipeline import GivenPipeline
from grasp_bench.run.resolve import choose_backbone

TRANSFORMER, VAE = "transformer/config.json", "vae/config.json"
VALUES = [
    (TRANSFORMER, {"num_attention_heads": "x"}),
    (TRANSFORMER, {"num_layers": [1]}),
    (TRANSFORMER, {"dual_attention_layers": 3}),
    (TRANSFORMER, {"sample_size": 0}),
    (TRANSFORMER, {"sample_size": None}),
    (TRANSFORMER, {"patch_size": 0}),
    (TRANSFORMER, {"in_channels": "16"}),
    (VAE, {"block_out_channels": 5}),
    (VAE, {"norm_num_groups": 0}),
    (VAE, {"scaling_factor": "1.5"}),
    (VAE, {"scaling_factor": 0}),
    (VAE, {"scaling_factor": None}),
    (VAE, {"shift_factor": [0.1]}),
    ("scheduler/scheduler_config.json", {"shift": "x"}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}),
    ("text_encoder/config.json", {"num_attention_heads": 0}),
    ("text_encoder_3/config.json", {"d_model": "x"}),
]
CONTENTS = [
    ("tokenizer/tokenizer_config.json", b"["),
    ("tokenizer/tokenizer_config.json", b"[1]"),
    ("tokenizer_3/tokenizer.json", b"{}"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sd3(tmp_path_factory.mktemp("sd3") / "saved", tmp_path_factory.mktemp("scratch"))


def as_backbone(folder: Path) -> None:
    """Load whatever a run does."""
    backbone = choose_backbone(f"sd3:{folder}").load()
    backbone.scheduler(4, torch.device("cpu"))
    assert backbone.autoencoder
    assert backbone.text_pipeline


def as_entry(folder: Path) -> None:
    """Load what is evaluated."""
    given = GivenPipeline(folder)
    assert given.settings
    given.load(torch.device("cpu"))


@pytest.mark.parametrize("load", [as_backbone, as_entry])
def test_values_of_another_form(load, saved: Path, tmp_path: Path) -> None:
    for number, (name, values) in enumerate(VALUES):
        folder = shutil.copytree(saved, tmp_path / str(number))
        config = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(json.dumps(config))
        with pytest.raises(UserError, match=str(folder)):
            load(folder)


@pytest.mark.parametrize("load", [as_backbone, as_entry])
def test_tokenizers_of_another_form(load, saved: Path, tmp_path: Path) -> None:
    for number, (name, content) in enumerate(CONTENTS):
        folder = shutil.copytree(saved, tmp_path / str(number))
        (folder / name).write_bytes(content)
        with pytest.raises(UserError, match=str(folder)):
            load(folder)
