"""Backbones that each break one sentence of the contract."""

import torch

from grasp_bench.backbones.tiny_sd3 import TinySD3
from grasp_bench.contracts.backbone import Block, Description


class Larger(TinySD3):
    """Says another size"""

    @classmethod
    def describe(cls, source, resolution=None):
        return Description(cls.revision, (1, 16, 16))


class Thawed(TinySD3):
    """Leaves weights to be trained"""

    @classmethod
    def load(cls, source="", resolution=None):
        backbone = super().load(source)
        backbone.transformer.proj_out.requires_grad_(True)
        return backbone


class DrawsOnLoading(TinySD3):
    """Draws from the global generator"""

    @classmethod
    def load(cls, source="", resolution=None):
        torch.rand(1)
        return super().load(source)


class Centred(TinySD3):
    """Latents of a batch have mean 0"""

    def encode_images(self, images):
        latents = super().encode_images(images)
        return latents - latents.mean()


class Cut(TinySD3):
    """Decodes without a gradient"""

    def decode(self, latents):
        return latents.detach()


class Deaf(TinySD3):
    """Every prompt is the null condition"""

    def encode_prompts(self, prompts):
        return super().encode_prompts([""] * len(prompts))


class Narrow(TinySD3):
    """Says another width of prompts"""

    def prompt_width(self):
        return 7


class Ancestral(TinySD3):
    """A scheduler that adds noise"""

    def scheduler(self, steps, device):
        scheduler = super().scheduler(steps, device)
        scheduler.register_to_config(stochastic_sampling=True)
        return scheduler


class OfTheBatch(TinySD3):
    """Predictions less their mean over the batch"""

    def predict(self, latents, timesteps, prompts):
        prediction = super().predict(latents, timesteps, prompts)
        return prediction - prediction.mean(0)


class Timeless(TinySD3):
    """Predictions for one timestep"""

    def predict(self, latents, timesteps, prompts):
        return super().predict(latents, torch.full_like(timesteps, 0.5), prompts)


class Drops(TinySD3):
    """Drops prompts at random in training"""

    def predict(self, latents, timesteps, prompts):
        if self.transformer.training:
            prompts = prompts.where(torch.rand(len(latents)) > 0.3, self.encode_prompts([""] * len(latents)))
        return super().predict(latents, timesteps, prompts)


class Shuffled(TinySD3):
    """Feed-forward layers in another order"""

    def feed_forwards(self):
        return dict(reversed(super().feed_forwards().items()))


class Silent(TinySD3):
    """Blocks that are said to return the image's tokens alone"""

    def blocks(self):
        return [Block(block.module) for block in super().blocks()]


class Fewer(TinySD3):
    """Counts tokens as if patches were larger"""

    def image_tokens(self, latents):
        return 4


class Convolves(TinySD3):
    """Projections that are no linear layers"""

    attention_projections = ("attn",)


class Keeps(TinySD3):
    """Gradient checkpointing that does nothing"""

    def enable_gradient_checkpointing(self):
        pass
