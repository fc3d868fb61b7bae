"""Methods with one fault each; but for it they are LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar

import torch  # a fault of all of them
from pydantic import Field
from torch import nn

from grasp_bench.baselines.lora import Lora, LoraSettings
from grasp_bench.contracts.method import Condition, Method, MethodSettings
from grasp_bench.contracts.objective import FlowMatching
from grasp_bench.contracts.second_stage import SecondStage
from grasp_bench.contracts.settings import Tuned
from grasp_bench.contracts.surgery import Surgery


class StartsElsewhere(Lora):
    """LoRA that is not idle at first"""

    def attach(self, backbone, task, generator):
        super().attach(backbone, task, generator)
        for parameter in self.parameters().values():
            parameter.data += 0.1


class SaysWhy(StartsElsewhere):
    """LoRA that is not idle at first

    It is moved. At step 0 the output differs, since updates begin at a tenth. Nothing else is new.
    """


class DrawsGlobally(Lora):
    """LoRA whose first weights come from torch's global generator"""

    def attach(self, backbone, task, generator):
        super().attach(backbone, task, generator)
        for name, parameter in self.parameters().items():
            if "lora_A" in name:
                parameter.data = torch.randn_like(parameter)


class ChangesTheTask(Lora):
    """LoRA with more images"""

    def attach(self, backbone, task, generator):
        super().attach(backbone, task, generator)
        more = {name: budget.model_copy(update={"images_per_class": 1000}) for name, budget in task.budgets.items()}
        task.budgets = more


class Late(FlowMatching):
    def timesteps(self, count, generator):
        return super().timesteps(count, generator).sqrt()


class ChangesTheObjective(Lora):
    """LoRA on other timesteps"""

    def attach(self, backbone, task, generator):
        super().attach(backbone, task, generator)
        backbone.objective = Late()


class MeetsHalfway(Lora):
    """LoRA whose target comes to meet it"""

    def losses(self, batch, prediction):
        batch.target.lerp_(prediction.detach(), 0.5)
        return super().losses(batch, prediction)


class Weakens(Lora):
    """LoRA on less noise, seen to after the loss"""

    def auxiliary_loss(self, batch, prediction):
        batch.noise.mul_(0.5)
        object.__setattr__(batch, "noisy", batch.latents)


class Relabels(Lora):
    """LoRA to which every class is the first"""

    def condition(self, condition):
        condition.labels.zero_()
        return super().condition(condition)


class Overlooks(Lora):
    """LoRA that wants no image of the last class"""

    def training_clusters(self, train):
        train.labels[train.labels == 9] = 0


class Leaks(Lora):
    """LoRA that moves a frozen weight, too"""

    def losses(self, batch, prediction):
        self.transformer.proj_out.bias.data += 1e-4
        return super().losses(batch, prediction)


class LearnsNothing(Lora):
    """LoRA without a gradient"""

    def losses(self, batch, prediction):
        return super().losses(batch, prediction) * 0


class ForgetsATensor(Lora):
    """LoRA that saves all updates but the last"""

    def state_dict(self):
        return dict(list(super().state_dict().items())[:-1])

    def load_state_dict(self, state):
        for name, tensor in state.items():
            self.parameters()[name].data.copy_(tensor)


class ForgetsWhatItWasGiven(Lora):
    """LoRA that keeps what it found out once, and not what it is given of it"""

    def artifacts(self):
        return {} if self.studied else {"found.json": 1}


class SavesTheBackbone(Lora):
    """LoRA with the backbone's weights in its file"""

    def state_dict(self):
        return super().state_dict() | {"theirs": self.transformer.proj_out.weight.detach().clone()}

    def load_state_dict(self, state):
        super().load_state_dict({name: tensor for name, tensor in state.items() if name != "theirs"})


class TakesAnything(Lora):
    """LoRA that loads what it knows"""

    def load_state_dict(self, state):
        own = self.parameters()
        for name in own.keys() & state.keys():
            own[name].data.copy_(state[name])


class Remembers(Lora):
    """LoRA whose loss counts the steps by itself"""

    steps = 0

    def losses(self, batch, prediction):
        self.steps += 1
        return super().losses(batch, prediction) + self.steps * prediction.square().flatten(1).mean(1)


class StaysAttached(Lora):
    """LoRA that does not go"""

    def detach(self):
        pass


class LeavesAHook(Lora):
    """LoRA that goes on listening"""

    def attach(self, backbone, task, generator):
        super().attach(backbone, task, generator)
        self.transformer.proj_out.register_forward_hook(lambda module, inputs, output: None)


class LeavesAGradient(Lora):
    """LoRA that leaves a weight trainable"""

    def detach(self):
        super().detach()
        self.transformer.proj_out.weight.requires_grad_(True)


_label: ContextVar[torch.Tensor | None] = ContextVar("label", default=None)


class PerClass(nn.Module):
    """A projection and a number for every class, of which class 0 is the default."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer, self.numbers = base_layer, nn.Parameter(torch.zeros(10, 1))

    def forward(self, hidden_states, *arguments, **named):
        labels = _label.get()
        if labels is None:
            labels = torch.zeros(len(hidden_states), dtype=torch.long)
        return self.base_layer(hidden_states, *arguments, **named) * (1 + self.numbers[labels][:, None])


class DefaultRoute(Method[MethodSettings]):
    """A number for every class on the first feed-forward layer, that of class 0 where none is asked for"""

    version = "1"
    paper = "none"
    layer = PerClass

    def attach(self, backbone, task, generator):
        self.transformer = backbone.transformer
        self.block = self.transformer.transformer_blocks[0]
        self.block.ff = self.layer(self.block.ff)

    def detach(self):
        self.block.ff = self.block.ff.base_layer

    @contextmanager
    def condition(self, condition: Condition) -> Iterator[None]:
        token = _label.set(condition.labels)
        try:
            yield
        finally:
            _label.reset(token)


class NoRoute(PerClass):
    """The same, but the layer alone where none is asked for."""

    def forward(self, hidden_states, *arguments, **named):
        return (self.base_layer if _label.get() is None else super().forward)(hidden_states, *arguments, **named)


class SkipsTheRoute(DefaultRoute):
    """A number for every class on the first feed-forward layer, and none where no class is asked for"""

    layer = NoRoute


class OfTheBatch(nn.Module):
    """Adds a part of the batch's mean."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer, self.share = base_layer, nn.Parameter(torch.zeros(1))

    def forward(self, hidden_states, *arguments, **named):
        output = self.base_layer(hidden_states, *arguments, **named)
        return output + self.share * output.mean(0, keepdim=True)


class BatchMean(DefaultRoute):
    """A layer that sees the whole batch"""

    layer = OfTheBatch


class Crashes(Lora):
    """LoRA that does not come to attach"""

    def attach(self, backbone, task, generator):
        raise RuntimeError("the wrong fuse")


class Operates(Lora):
    """LoRA whose step is the first group's gradient"""

    def surgery(self):
        return Surgery(torch.arange(10) % 3, self.combine)

    def combine(self, gradients, stream):
        return gradients[0]


class ChangesGradients(Operates):
    """A step that adds the groups up in place"""

    def combine(self, gradients, stream):
        return gradients[0].add_(gradients[1:].sum(0))


class DrawsASurgery(Operates):
    """A step by the group that chance chooses"""

    def combine(self, gradients, stream):
        return gradients[torch.randint(len(gradients), ())]


class DividesByNothing(Operates):
    """A step along unit gradients, that of absent groups too"""

    def combine(self, gradients, stream):
        return (gradients / gradients.norm(dim=1, keepdim=True)).sum(0)


class NeverEnds(Lora):
    """LoRA with a second stage after the last step"""

    def second_stage(self, steps, counts):
        return SecondStage(steps, None, lambda name: True)


class DrawsNothing(Lora):
    """LoRA whose second stage draws no class"""

    def second_stage(self, steps, counts):
        return SecondStage(steps - 1, 0.0 * counts, lambda name: True)


class Rests(Lora):
    """LoRA whose second stage trains the output layer, which LoRA does not"""

    def second_stage(self, steps, counts):
        return SecondStage(steps - 1, None, lambda name: name.startswith("proj_out"))


class UndescribedSettings(LoraSettings):
    depth: int = 3
    width: Annotated[int, Tuned(8, 64)] = Field(default=4, ge=1)
    """Width"""


class Undescribed(Lora):
    Config: ClassVar[type[Any]] = UndescribedSettings
