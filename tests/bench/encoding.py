"""Training steps on a mid-sized pipeline of real classes: from stored latents and embeddings, or encoding each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from helpers.tiny_pipelines import clip_tokenizer, t5_tokenizer
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from grasp_bench import seeds
from grasp_bench.backbones.sd3 import SD3
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.contracts.progress import Progress
from grasp_bench.contracts.study import LatentSource
from grasp_bench.contracts.task import Split
from grasp_bench.processes import ALONE
from grasp_bench.run.encoded import Latents, Pixels, StoredPrompts, encode_latents, encode_prompts
from grasp_bench.run.plan import Plan, plan
from grasp_bench.run.training.batches import Batches
from grasp_bench.run.training.optimizer import make_optimizer

from .recording import timed

HEAD_WIDTH = 64  # as in SD3


@dataclass(frozen=True)
class PipelineSizes:
    """Of a pipeline like SD3's, and of the data it is trained on."""

    width: int = 256
    blocks: int = 4
    latent_side: int = 16
    text_layers: int = 4
    text_widths: tuple[int, int, int] = (128, 256, 512)
    """Of CLIP-L, CLIP-G and T5."""
    autoencoder_channels: tuple[int, ...] = (64, 128, 256, 256)
    """Half of Stable Diffusion's: each but the last halves the image."""
    images: int = 32
    batch: int = 8
    repeats: int = 5

    @property
    def image_side(self) -> int:
        """In pixels."""
        return self.latent_side * 2 ** (len(self.autoencoder_channels) - 1)


def save_pipeline(folder: Path, scratch: Path, sizes: PipelineSizes) -> Path:
    """A folder as diffusers' ``save_pretrained`` writes it, of random weights."""
    clip_width, other_width, t5_width = sizes.text_widths
    clip, other_clip = clip_tokenizer(scratch / "clip-l"), clip_tokenizer(scratch / "clip-g")
    t5 = t5_tokenizer(scratch / "t5")
    with seeds.global_seed(seeds.generator("init", "pipeline")):
        StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=sizes.latent_side,
                patch_size=2,
                num_layers=sizes.blocks,
                attention_head_dim=HEAD_WIDTH,
                num_attention_heads=sizes.width // HEAD_WIDTH,
                joint_attention_dim=t5_width,
                caption_projection_dim=sizes.width,
                pooled_projection_dim=clip_width + other_width,
                pos_embed_max_size=sizes.latent_side // 2,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * len(sizes.autoencoder_channels),
                up_block_types=("UpDecoderBlock2D",) * len(sizes.autoencoder_channels),
                block_out_channels=sizes.autoencoder_channels,
                layers_per_block=2,
                latent_channels=16,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            text_encoder=_clip(clip_width, sizes.text_layers, clip),
            tokenizer=clip,
            text_encoder_2=_clip(other_width, sizes.text_layers, other_clip),
            tokenizer_2=other_clip,
            text_encoder_3=T5EncoderModel(
                T5Config(
                    vocab_size=len(t5),
                    d_model=t5_width,
                    d_kv=HEAD_WIDTH,
                    d_ff=4 * t5_width,
                    num_layers=sizes.text_layers,
                    num_heads=t5_width // HEAD_WIDTH,
                    is_gated_act=True,
                )
            ),
            tokenizer_3=t5,
        ).save_pretrained(folder)
    return folder


def _clip(width: int, layers: int, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            projection_dim=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Training:
    """GRASP on a saved pipeline; a step reads from storage or encodes, whichever it is asked for."""

    def __init__(self, pipeline: Path, work: Path, sizes: PipelineSizes) -> None:
        chosen = plan(method="grasp", task="digits-lt", backbone=f"sd3:{pipeline}")
        budget = chosen.spec.budget.model_copy(update={"batch_size": sizes.batch})
        self.chosen = replace(chosen, spec=chosen.spec.model_copy(update={"budget": budget}))
        self.split = some_images(self.chosen, work / "data", sizes.images)
        self.backbone = SD3.load(str(pipeline))
        self.seconds_to_store, _ = timed(lambda: self._store(work))
        self.method = self.chosen.method
        self.method.attach(self.backbone, self.chosen.task, seeds.generator("init", "encoding"))
        self.backbone.transformer.train()
        self.parameters = list(self.method.parameters().values())
        self.optimizer = make_optimizer(budget, self.parameters, self.method.config)
        self.stored = self._batches(Latents(work / "latents"), StoredPrompts(work / "prompts"))
        self.encoded = self._batches(Pixels(self.split, self.backbone), self.encode_together)
        self.encoded.prompts = lambda prompts, dtype: self.encode_together(prompts)  # each time; a run keeps them

    def _store(self, work: Path) -> None:
        for name in ("latents", "prompts"):
            (work / name).mkdir()
        progress = Progress()
        encode_latents(self.split, self.backbone, False, work / "latents", ALONE, progress)
        encode_prompts(sorted({"", *self.split.prompts}), self.backbone, work / "prompts", ALONE, progress)

    def _batches(self, latents: LatentSource, embed: Callable[[Sequence[str]], PromptEmbeddings]) -> Batches:
        return Batches(self.chosen.spec, self.split, self.backbone, latents, embed, torch.device("cpu"), None)

    def encode_together(self, prompts: Sequence[str]) -> PromptEmbeddings:
        """All prompts in one pass of each encoder; the backbone itself takes one at a time and keeps what it made."""
        with torch.no_grad():
            tokens, _, pooled, _ = self.backbone.text_pipeline.encode_prompt(
                list(prompts), prompt_2=None, prompt_3=None, device="cpu", do_classifier_free_guidance=False
            )
        return PromptEmbeddings(tokens, pooled)

    @property
    def sizes(self) -> dict[str, int]:
        """Part of the pipeline → its number of parameters."""
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        models = {name: getattr(self.backbone.text_pipeline, name) for name in names}
        models |= {"transformer": self.backbone.transformer, "autoencoder": self.backbone.autoencoder}
        return {name: sum(parameter.numel() for parameter in model.parameters()) for name, model in models.items()}

    def check_agreement(self) -> None:
        """Raises AssertionError where encoding gives anything but what is stored: its time would mean nothing."""
        stored, encoded = self.stored(0), self.encoded(0)
        torch.testing.assert_close(encoded.latents, stored.latents, rtol=1e-3, atol=1e-3)
        for name, tensor in encoded.condition.prompts.tensors().items():
            torch.testing.assert_close(tensor, stored.condition.prompts.tensors()[name], rtol=1e-3, atol=1e-3)

    def step(self, batches: Batches, number: int) -> None:
        """The step ``number``, which ends when the latents of the next are there, too."""
        batch = batches(number)
        with self.method.condition(batch.condition):
            prediction = self.backbone.predict(batch.noisy, batch.condition.timesteps, batch.condition.prompts)
        self.optimizer.zero_grad()
        self.method.losses(batch, prediction).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.chosen.spec.budget.clip_norm)
        self.optimizer.step()
        for pending in batches.ahead.values():  # else the background's work would fall into what is timed next
            pending.result()


def some_images(chosen: Plan, folder: Path, count: int) -> Split:
    """``count`` training images, evenly spread over those of the task."""
    folder.mkdir()
    chosen.task.prepare(folder, Progress())
    whole = chosen.task.open(folder, chosen.backbone.image_shape).train
    rows = np.linspace(0, len(whole) - 1, count).astype(np.int64)
    return Split(
        ids=[whole.ids[row] for row in rows],
        labels=whole.labels[rows],
        prompts=[whole.prompts[row] for row in rows],
        read=lambda indices: whole.read(rows[indices]),
    )
