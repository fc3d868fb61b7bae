"""``grasp-bench new``: a commented template to start from."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from grasp_bench.errors import UserError

TASK = """\
# A task of your own images. Run it with: grasp-bench run --method grasp --task {path}
# Everything that is commented out shows its default; `grasp-bench show folder` lists every setting.

name = "{name}"                      # what tables call it: a-z, 0-9 and -
images = "images"                    # folder, relative to this file: a sub-folder a class, or flat with labels
# labels = "labels.csv"              # columns id (the image's path in the folder) and label; more may be named below
prompt = "a photo of {{class}}"        # {{class}} is the class's name, blanks for underscores

# Head: classes of more training images than head_above; tail: of fewer than tail_below; the rest is medium.
# head_above = 100
# tail_below = 20
# Or say it yourself, every class once:
# [groups]
# head = ["cat", "dog"]
# tail = ["eel"]

# split_column = "split"             # of labels: train, validation or test for every image
# test_share = 0.3                   # without it, the split is drawn within each class ...
# validation_share = 0.1
# split_seed = 0
# metadata_columns = ["view"]        # of labels: kept for methods that go by them
# patient_column = "patient_id"      # ... or by patient, who is then in one split alone; intervals resample patients

# backbone = "tiny-sd3-32"           # see `grasp-bench list backbones`
# extractor = "inception"            # behind distances; needs its weights. "pixels" needs none, and says little
# network = "small-cnn"              # downstream classifier; or timm:<model>

[budget]                             # of every method alike
steps = 2000
batch_size = 64
warmup_steps = 100
images_per_class = 50
num_inference_steps = 20
"""


def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="What to start: task.")],
    path: Annotated[Path, typer.Option(help="File to write.")] = Path("mytask.toml"),
) -> None:
    """Write a commented template: of a task, one TOML file that describes your own images."""
    from grasp_bench.cli.output import console
    from grasp_bench.io import write_bytes

    if kind != "task":
        raise UserError(f"new {kind}: there is a template of: task.")
    if path.exists():
        raise UserError(f"{path}: is there already. Choose another name with --path.")
    if path.suffix != ".toml":
        raise UserError(f"--path {path}: expected a name that ends in .toml.")
    name = re.sub("[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "mytask"
    write_bytes(path, TASK.format(path=path, name=name).encode())
    console().print(
        f"wrote {path}; name your images in it, then: grasp-bench prepare --task {shlex.quote(str(path))} --check"
    )
