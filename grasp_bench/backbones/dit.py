"""DiT-XL/2, a diffusion transformer conditioned on ImageNet's classes (Peebles & Xie 2022, arXiv 2212.09748)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from grasp_bench.backbones.diffusers_model import FIRST_ATTENTION, DiffusersBackbone
from grasp_bench.backbones.saved import SavedBackbone
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.recipe import BackboneRecipe, Rate, Timesteps
from grasp_bench.errors import UserError

if TYPE_CHECKING:
    import torch
    from diffusers.schedulers import DDIMScheduler

    from grasp_bench.backbones.files import SavedPipeline


RECIPE = BackboneRecipe(
    name="dit",
    source=(
        "AdamW at 1e-4 with betas 0.9 and 0.999, without weight decay or warm-up, is the paper's pretraining (arXiv "
        "2212.09748, section 4), as are steps drawn evenly; its bound on the predicted variance is left out. diffusers "
        "has no script for it. Our choice, without a source: the pretraining's rate for low rank, adapters and gates "
        "and a tenth of it for all weights; all ranges of searches; a gradient norm of 1; bfloat16. Guidance 4 and 50 "
        "steps are the defaults of diffusers' DiTPipeline. Each size has weights of its own, so that there is no "
        "choice of resolution."
        " The parameter budget, our choice, is that of LoRA at rank 16."
    ),
    rates={
        "all weights": Rate(1e-5, 1e-6, 1e-4),
        "low rank": Rate(1e-4, 1e-5, 1e-3),
        "adapters": Rate(1e-4, 1e-5, 3e-3),
        "gates": Rate(1e-4, 1e-5, 3e-3),
    },
    parameters=4_100_000,
    timesteps=Timesteps("uniform"),
    precision="bfloat16",
    weight_decay=0.0,
    clip_norm=1.0,
    guidance_scale=4.0,
    sampling_steps=50,
    sampler="DDIM",
    prompt_length="no text; one of 1000 classes",
    latents="0.18215 z",
    conditions="a variance is predicted, and left out",
)


class DiT(DiffusersBackbone, SavedBackbone):
    """DiT-XL/2 at 256 or 512 pixels, conditioned on a task's classes, from a saved pipeline

    The source is a folder, as in ``dit:/models/dit-xl-2-256``, or a repository in the hub's local cache, as in
    ``dit:facebook/DiT-XL-2-256``. It reads no text: each class of the task gets a row of its table of classes, as
    :func:`assign_rows` says, and the empty prompt gets the null class.

    Fine-tuning differs from the paper's: the loss is the error of the predicted noise alone, timesteps drawn evenly,
    and the variance that the transformer also predicts is neither trained nor used; latents are the mode of the
    autoencoder's distribution. The transformer's own random dropping of classes is off: prompts are dropped by the
    harness, alike for every method.
    """

    attention_projections: ClassVar[tuple[str, ...]] = FIRST_ATTENTION
    components: ClassVar[dict[str, str]] = {
        "transformer": "diffusers.DiTTransformer2DModel",
        "vae": "diffusers.AutoencoderKL",
    }
    example: ClassVar[str] = "dit:facebook/DiT-XL-2-256"
    recipe = RECIPE

    def __init__(self, saved: SavedPipeline, resolution: int | None = None) -> None:
        import torch
        from diffusers.models.embeddings import LabelEmbedding

        from grasp_bench.contracts.objective import VariancePreserving

        super().__init__(saved, resolution)
        for module in self.transformer.modules():
            if isinstance(module, LabelEmbedding):
                module.dropout_prob = 0.0
        self.class_count = saved.setting("transformer", "num_embeds_ada_norm")
        self.rows: dict[str, int] = {}
        self.objective = VariancePreserving.of(self.scheduler(1, torch.device("cpu")))

    def set_classes(self, prompts: Sequence[str]) -> None:
        """Give each class a row, by :func:`assign_rows`; classes of the same prompt share one.

        Raises :class:`UserError` for more classes than the table has rows.
        """
        distinct = list(dict.fromkeys(prompts))
        if len(distinct) > self.class_count:
            raise UserError(
                f"{self.saved.folder}: dit tells {self.class_count} classes apart, and this task has {len(distinct)}. "
                "Choose a backbone that reads text, such as pixart or sd3."
            )
        names = class_names(self.saved.index.get("id2label", {}))
        self.rows = assign_rows(distinct, names, self.class_count)

    def encode_prompts(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens int64 (B, 1): rows of the table of classes, whose last is the empty prompt's.

        Raises :class:`UserError` for a prompt that is no class's.
        """
        import torch

        rows = {"": self.class_count} | self.rows
        if unknown := [prompt for prompt in prompts if prompt not in rows]:
            raise UserError(
                f"dit is conditioned on classes, but this task has captions: {unknown[0]!r} is the prompt of no class. "
                "Choose a backbone that reads text, such as pixart or sd3."
            )
        return PromptEmbeddings(torch.tensor([[rows[prompt]] for prompt in prompts]))

    def blank_prompts(self, count: int) -> PromptEmbeddings:
        import torch

        return PromptEmbeddings(torch.zeros(count, 1, dtype=torch.long))

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, prompts: PromptEmbeddings) -> torch.Tensor:
        output: torch.Tensor = self.transformer(
            latents,
            timestep=self.objective.clock(timesteps),
            class_labels=prompts.tokens[:, 0],
            return_dict=False,
        )[0]
        return output[:, : self.latent_shape[0]]  # the mean; a predicted variance follows it

    def conditioning(self) -> torch.nn.Module:
        return self.transformer.transformer_blocks[0].norm1.emb  # type: ignore[no-any-return] # untyped in diffusers

    def prompt_width(self) -> int:
        return self.class_count + 1  # the null class is the last

    def scheduler(self, steps: int, device: torch.device) -> DDIMScheduler:
        """DDIM without added noise, on the noise levels of whatever scheduler was saved."""
        from diffusers.schedulers import DDIMScheduler

        # latents are unbounded, but DDIM clips what it estimates of x_0 where another scheduler's settings say nothing
        with self.loading_scheduler():
            scheduler = DDIMScheduler.from_config({"clip_sample": False} | self.scheduler_config())
            scheduler.set_timesteps(steps, device=device)
        return scheduler


def class_names(id2label: Mapping[str, str]) -> dict[str, list[int]]:
    """Name → the rows it names, ascending, from labels like "great white shark, white shark" by row."""
    names: dict[str, list[int]] = {}
    for row, label in sorted((int(row), label) for row, label in id2label.items()):
        for name in label.split(","):
            names.setdefault(_words(name), []).append(row)
    return names


def assign_rows(prompts: Sequence[str], names: Mapping[str, Sequence[int]], count: int) -> dict[str, int]:
    """Prompt → its row of a table of ``count`` classes; a function of the prompts in their order and of the names.

    Of the names whose words are in a prompt, whatever their case, the longest counts. The first of its rows that no
    earlier prompt has taken is the prompt's. Prompts without a name, or whose name's rows are all taken, then get the
    rows that are left, in ascending order.
    """
    rows: dict[str, int] = {}
    for prompt in prompts:
        words = _words(prompt)
        longest = max((name for name in names if name in words), key=len, default="")
        free = [row for row in names.get(longest, ()) if row not in rows.values()]
        if free:
            rows[prompt] = free[0]
    left = iter(sorted(set(range(count)) - set(rows.values())))
    return {prompt: rows[prompt] if prompt in rows else next(left) for prompt in prompts}


def _words(text: str) -> str:
    """The text's words in lower case, each between spaces, so that one text is in another only by whole words."""
    words = " ".join(re.findall(r"[^\W_]+", text.casefold()))
    return f" {words} "
