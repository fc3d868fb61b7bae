"""The model card of an exported folder, as the hub reads it: YAML front matter, then Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from grasp_bench.contracts.backbone import ChosenBackbone
from grasp_bench.contracts.record import ARROWS, CLASS_MEANS, RunRecord, Score, of_groups, titled
from grasp_bench.export.manifest import Manifest
from grasp_bench.home import with_home
from grasp_bench.run.files import PICTURE
from grasp_bench.text import markdown_code, markdown_escaped, markdown_source

SAMPLES = f"![Generated images of each class]({PICTURE})\n\n"
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
PRIVATE = (
    "**Do not share these weights, nor images made with them, publicly.** They were trained on credentialed or "
    "patients' data, of which weights and images may give parts away. Ask what the agreement that you signed for the "
    "data says of models trained on them.\n\n"
)
LICENCE = (
    "Not chosen by the exporter: the weights derive from the base model and from the training data, and whatever the "
    "licences of both allow and forbid applies to them."
)
NOTES = (
    "n: images that a value rests on, of each kind where real and generated ones are compared; real: what real images "
    "score against held-out real ones at the same count."
)


def model_card(
    manifest: Manifest, record: RunRecord, chosen: ChosenBackbone, source: str, other_formats: str, picture: bool
) -> str:
    """Return the card; ``source`` says where the task's data come from, ``other_formats`` how else the weights load."""
    spec = manifest.spec
    trained_on = "" if spec.task.name == record.spec.task.name else f" ({spec.task.name}'s generator)"
    return (
        f"{_front_matter(manifest, chosen)}\n"
        f"# {markdown_escaped(f'{manifest.label} on {manifest.task_label}{trained_on}')}\n\n"
        f"{PRIVATE if manifest.private else ''}"
        f"Backbone {markdown_code(spec.backbone.name)} (revision {markdown_escaped(spec.backbone.version)}), "
        f"fine-tuned by method {markdown_code(spec.method.name)} (version {markdown_escaped(spec.method.version)}) "
        f"of grasp-bench {markdown_escaped(manifest.grasp_bench)} for "
        f"{spec.budget.steps} steps of {spec.budget.batch_size} images, seed {spec.seed}; the run's id begins with "
        f"{manifest.run_id[:12]}.\n\n"
        f"{SAMPLES if picture else ''}"
        f"## Use\n\n{_usage(manifest, chosen)}{other_formats}\n"
        f"## Classes\n\n{_table(['class', 'prompt', 'group', 'training images'], _class_rows(manifest))}\n"
        f"## Scores\n\n{_scores(record)}\n"
        f"## Data and licence\n\nData: {markdown_source(source.rstrip('.'))}.\n\n{LICENCE}\n"
    )


def base_model(chosen: ChosenBackbone, name: str) -> str:
    """Return the base model as the hub knows it, or else the backbone's name; never a folder."""
    on_hub = REPOSITORY.fullmatch(chosen.source) and not with_home(Path(chosen.source)).exists()
    return chosen.source if on_hub else name


def _front_matter(manifest: Manifest, chosen: ChosenBackbone) -> str:
    spec = manifest.spec
    tags = dict.fromkeys(["grasp-bench", "long-tail", "fine-tuning", spec.method.name, spec.task.name])
    lines = [
        "library_name: grasp-bench",
        "pipeline_tag: text-to-image",
        f"base_model: {json.dumps(base_model(chosen, spec.backbone.name))}",
        "license: other",
        "license_name: unknown",
        "tags:",
        *(f"- {json.dumps(tag)}" for tag in tags),  # a string in JSON is one in YAML
    ]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _usage(manifest: Manifest, chosen: ChosenBackbone) -> str:
    backbone, rarest = manifest.spec.backbone.name, min(manifest.classes, key=lambda info: info.train_count)
    source = json.dumps(f"{backbone}:{base_model(chosen, 'FOLDER')}")
    named = f", backbone={source}" if chosen.source else ""
    return (
        "```python\n"
        "import grasp_bench\n\n"
        f'pipeline = grasp_bench.load("FOLDER"{named})\n'
        f"images = pipeline(class_name={json.dumps(rarest.name)}, num_images=4, seed={manifest.spec.seed}).images\n"
        'images[0].save("image.png")\n'
        "```\n"
    )


def _class_rows(manifest: Manifest) -> list[list[str]]:
    return [[info.name, info.prompt, info.group, str(info.train_count)] for info in manifest.classes]


def _scores(record: RunRecord) -> str:
    """Return a Markdown table with a row per metric and a column per group."""
    shown = of_groups(record.scores)
    groups = list(dict.fromkeys(score.group for score in shown))
    means = f"{CLASS_MEANS} " if any(score.scope == "class mean" for score in shown) else ""
    rows = []
    for label, scores in titled(shown).items():
        values = {score.group: score for score in scores}
        arrow = ARROWS[scores[0].direction]
        rows.append([f"{label} {arrow}", *(_value(values[group]) if group in values else "-" for group in groups)])
    return (
        f"{_table(['score', *groups], rows)}\nOn {markdown_escaped(record.task_label)}, "
        f"{markdown_escaped(record.spec.budget.name)} budget, one seed ({record.spec.seed}), guidance "
        f"{markdown_escaped(record.spec.guidance.name)}. {means}{NOTES}\n"
    )


def _value(score: Score) -> str:
    if score.value is None:
        return f"n too small (n={score.n})"
    reference = "" if score.reference is None else f", real {score.reference:.4g}"
    return f"{score.value:.4g} (n={score.n}{reference})"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [map(markdown_escaped, head), ["---"] * len(head), *(map(markdown_escaped, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
