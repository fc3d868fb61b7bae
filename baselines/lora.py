"""LoRA on the attention layers, and other families of weight updates that peft implements, on the same targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from grasp_bench import seeds
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind
from grasp_bench.contracts.sized import SizedMethod, SizedSettings

if TYPE_CHECKING:
    import torch

    from grasp_bench.contracts.backbone import Backbone
    from grasp_bench.contracts.task import Task, TaskSettings

PEFT = """
In peft's own format, where `transformer` is that of the base model:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(transformer, "FOLDER")
```
"""
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"  # with alpha / rank in it: not every version reads them elsewhere
DIFFUSERS = f"""
In diffusers, on the base model's pipeline or its transformer:

```python
pipeline.load_lora_weights("FOLDER", weight_name="{DIFFUSERS_FILE}")
transformer.load_lora_adapter("FOLDER", weight_name="{DIFFUSERS_FILE}")
```
"""

Any_co = TypeVar("Any_co", bound=MethodSettings, covariant=True)
C_co = TypeVar("C_co", bound=SizedSettings, covariant=True)
Shapes = list[tuple[int, int]]
"""Input and output width of each layer that is trained."""


class ThroughPeft(Method[Any_co]):
    """What peft adds to a transformer: a subclass says how, and where if not at every attention projection."""

    kind: ParameterKind = "low rank"

    def configuration(self, backbone: Backbone, task: Task[TaskSettings]) -> Any:
        """peft's configuration, with the layers that are trained."""
        raise NotImplementedError

    def targets(self, backbone: Backbone, task: Task[TaskSettings]) -> list[str]:
        """Names of the layers that are trained."""
        from grasp_bench.adapters.residual import attention_layers

        return attention_layers(backbone)

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from peft import get_peft_model

        config = self.configuration(backbone, task)
        self.transformer = backbone.transformer
        with seeds.global_seed(generator):
            self.peft_model = get_peft_model(backbone.transformer, config)

    def detach(self) -> None:
        self.peft_model.unload()

    def export(self, folder: Path) -> str:
        """peft's own two files."""
        # left empty, peft fills in the folder that the transformer was loaded from
        self.peft_model.peft_config["default"].base_model_name_or_path = "unknown"
        self.peft_model.save_pretrained(folder, save_embedding_layers=False)
        return PEFT


class PeftMethod(ThroughPeft[C_co], SizedMethod[C_co]):
    """What is trained through peft and has a size, which a subclass gives to peft."""

    def peft_config(self, targets: list[str], size: int) -> Any:
        """peft's configuration, for the layers of these names."""
        raise NotImplementedError

    def count_of(self, shapes: Shapes, size: int) -> int:
        """Number of parameters that are trained in layers of these shapes."""
        raise NotImplementedError

    def count(self, backbone: Backbone, task: Task[TaskSettings]) -> Callable[[int], int]:
        from grasp_bench.adapters.residual import widths

        shapes = [widths(backbone.transformer.get_submodule(name)) for name in self.targets(backbone, task)]
        return lambda size: self.count_of(shapes, size)

    def configuration(self, backbone: Backbone, task: Task[TaskSettings]) -> Any:
        return self.peft_config(self.targets(backbone, task), self.find_size(backbone, task))


class RankSettings(SizedSettings):
    """Settings of updates that are multiplied by alpha / rank."""

    alpha: float | None = Field(default=None, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""

    with_size: ClassVar[tuple[str, ...]] = ("alpha",)

    def alpha_at(self, rank: int) -> float:
        """Alpha as it is set, or the rank where that follows from the number of parameters."""
        return float(rank) if self.alpha is None else self.alpha


class LoraSettings(RankSettings):
    """Settings of LoRA."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    rank: int | None = Field(default=11, ge=1, le=1024)
    """Width of the low-rank update; 11 gives about as many parameters as GRASP's defaults on tiny-sd3"""
    alpha: float | None = Field(default=11.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Lora(PeftMethod[LoraSettings]):
    """LoRA: low-rank updates of every attention projection, through peft"""

    Config: ClassVar[type[MethodSettings]] = LoraSettings
    version = "1"
    paper = "Hu et al. 2021, LoRA, arXiv 2106.09685; peft's implementation, targets as in diffusers' SD3 recipe"

    def peft_config(self, targets: list[str], size: int) -> Any:
        from peft import LoraConfig

        return LoraConfig(r=size, lora_alpha=self.config.alpha_at(size), target_modules=targets)

    def count_of(self, shapes: Shapes, size: int) -> int:
        return size * sum(inputs + outputs for inputs, outputs in shapes)

    def export(self, folder: Path) -> str:
        """peft's own two files, and the one that diffusers reads where its transformer can load it."""
        from peft import get_peft_model_state_dict

        from grasp_bench.io import write_tensors

        loading = super().export(folder)
        if not hasattr(self.transformer, "load_lora_adapter"):
            return loading
        rank = self.sizes["rank"]
        prefix, scale = "base_model.model.", self.config.alpha_at(rank) / rank
        tensors = {
            f"transformer.{name.removeprefix(prefix)}": tensor * scale if ".lora_B." in name else tensor
            for name, tensor in get_peft_model_state_dict(self.peft_model, save_embedding_layers=False).items()
        }
        write_tensors(folder / DIFFUSERS_FILE, tensors)
        return loading + DIFFUSERS


class BesideLoraSettings(SizedSettings):
    """Settings of what is compared with LoRA."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; LoRA's, not chosen for this method"""


class DoraSettings(RankSettings, BesideLoraSettings):
    """Settings of DoRA."""

    rank: int | None = Field(default=10, ge=1, le=1024)
    """Width of the low-rank update; 10 gives 3 % fewer parameters than GRASP's defaults on tiny-sd3, magnitudes too"""
    alpha: float | None = Field(default=10.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Dora(PeftMethod[DoraSettings]):
    """DoRA: LoRA on the direction of every attention projection's rows, and their magnitudes, through peft

    Magnitudes begin as those of the weights in full precision, so with frozen weights stored in bfloat16 the output
    begins equal to the base model's only up to that rounding.
    """

    Config: ClassVar[type[MethodSettings]] = DoraSettings
    version = "1"
    paper = "Liu et al. 2024, DoRA, arXiv 2402.09353; peft's implementation, on the targets of our LoRA"

    def peft_config(self, targets: list[str], size: int) -> Any:
        from peft import LoraConfig

        alpha = self.config.alpha_at(size)
        return LoraConfig(r=size, lora_alpha=alpha, use_dora=True, target_modules=targets)

    def count_of(self, shapes: Shapes, size: int) -> int:
        return sum(size * (inputs + outputs) + outputs for inputs, outputs in shapes)


class LohaSettings(RankSettings, BesideLoraSettings):
    """Settings of LoHa."""

    rank: int | None = Field(default=5, ge=1, le=1024)
    """Width of both low-rank factors; 5 gives 8 % fewer parameters than GRASP's defaults on tiny-sd3, 6 11 % more"""
    alpha: float | None = Field(default=5.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Loha(PeftMethod[LohaSettings]):
    """LoHa: updates of every attention projection by the elementwise product of two low-rank matrices, through peft"""

    Config: ClassVar[type[MethodSettings]] = LohaSettings
    version = "1"
    paper = (
        "Hyeon-Woo et al. 2021, FedPara, arXiv 2108.06098, as adapters since LyCORIS (Yeh et al. 2023, arXiv "
        "2309.14859); peft's implementation, on the targets of our LoRA"
    )

    def peft_config(self, targets: list[str], size: int) -> Any:
        from peft import LoHaConfig

        return LoHaConfig(r=size, alpha=self.config.alpha_at(size), target_modules=targets)

    def count_of(self, shapes: Shapes, size: int) -> int:
        return 2 * size * sum(inputs + outputs for inputs, outputs in shapes)


class OftSettings(BesideLoraSettings):
    """Settings of OFT."""

    size: ClassVar[str] = "block_size"

    block_size: int | None = Field(default=32, ge=2, le=4096)
    """Input channels that each rotation mixes; 32 gives 28 % fewer parameters than GRASP's defaults on tiny-sd3, and
    the next size, 64, 45 % more. Where it does not divide a layer's width, peft warns and takes the nearest that does
    """


class Oft(PeftMethod[OftSettings]):
    """OFT: block-diagonal rotations of what every attention projection reads, through peft

    Rotations are exact: Cayley's transform by solving a linear system rather than by a truncated series.
    """

    Config: ClassVar[type[MethodSettings]] = OftSettings
    version = "1"
    paper = (
        "Qiu et al. 2023, OFT, arXiv 2306.07280; peft's implementation, which rotates the input side of a weight, with "
        "the exact Cayley transform and without the constraint of COFT; on the targets of our LoRA"
    )

    def peft_config(self, targets: list[str], size: int) -> Any:
        from peft import OFTConfig

        return OFTConfig(oft_block_size=size, use_cayley_neumann=False, target_modules=targets)

    def count_of(self, shapes: Shapes, size: int) -> int:
        return sum(inputs * (size - 1) // 2 for inputs, _ in shapes)

    def possible_sizes(self, backbone: Backbone) -> Sequence[int]:
        """The sizes of blocks that divide the width of every attention projection, so that peft takes them as given."""
        from grasp_bench.adapters.residual import attention_layers, widths

        common = math.gcd(*(widths(backbone.transformer.get_submodule(name))[0] for name in attention_layers(backbone)))
        return [size for size in super().possible_sizes(backbone) if common % size == 0]
