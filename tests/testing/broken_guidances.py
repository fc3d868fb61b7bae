"""Guidances with one fault each; but for it they are the conditional prediction."""

from __future__ import annotations

import torch

from grasp_bench.contracts.guidance import Guidance
from grasp_bench.contracts.settings import Settings


class Plain(Guidance[Settings]):
    """The conditional prediction"""

    version = "1"
    paper = "none"
    evaluations_per_step = 1

    def predict(self, model, latents, step):
        return model.conditional(latents, step.timesteps)


class OfTheBatch(Plain):
    """Away from the batch's mean"""

    def predict(self, model, latents, step):
        prediction = super().predict(model, latents, step)
        return prediction - 0.1 * prediction.mean(0, keepdim=True)


class DrawsGlobally(Plain):
    """With noise of torch's global generator"""

    def predict(self, model, latents, step):
        return super().predict(model, latents, step) + 0.01 * torch.randn_like(latents)


class Remembers(Plain):
    """With more of it in every batch"""

    batches = 0

    def predict(self, model, latents, step):
        self.batches += step.index == 0
        return super().predict(model, latents, step) * (1 + 0.01 * self.batches)


class Uncounted(Plain):
    """Past the counter"""

    def prepare(self, workshop, folder):
        self.backbone, self.condition = workshop.backbone, workshop.method.condition

    def predict(self, model, latents, step):
        return self.backbone.predict(latents, step.timesteps, model.prompts)


class SaysLess(Plain):
    """Two evaluations per step, of which it mentions one"""

    def predict(self, model, latents, step):
        conditional, unconditional = model.both(latents, step.timesteps)
        return 2 * conditional - unconditional


class MoreInSmallBatches(Plain):
    """With more evaluations in a small batch, none of which is hidden"""

    @property
    def evaluations_per_step(self):
        return 2

    def predict(self, model, latents, step):
        if len(latents) < 10:
            model.conditional(latents, step.timesteps)
        return super().predict(model, latents, step)


class WritesWeights(Plain):
    """With a weight of the network's changed"""

    def prepare(self, workshop, folder):
        workshop.backbone.transformer.proj_out.bias.data += 0.01


class LeavesAHook(Plain):
    """With an ear in the network"""

    def prepare(self, workshop, folder):
        layer = workshop.backbone.transformer.proj_out
        layer.register_forward_hook(lambda module, inputs, output: output * 1.01)


class LearnsText(Plain):
    """Learns a text"""

    learns = True

    def learn(self, workshop, folder):
        (folder / "learned.txt").write_text("a text")


class LearnsAtRandom(Plain):
    """Learns what torch's global generator says"""

    learns = True

    def learn(self, workshop, folder):
        from grasp_bench.io import write_tensors

        write_tensors(folder / "learned.safetensors", {"numbers": torch.randn(3)})


class NotFinite(Plain):
    """Divides by zero"""

    def predict(self, model, latents, step):
        return super().predict(model, latents, step) / 0


class OddSupport(Plain):
    """Says no in its own way"""

    def supports(self, backbone, method):
        return "no"
