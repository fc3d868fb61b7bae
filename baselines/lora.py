"""LoRA on the attention layers, and other families of weight updates that peft implements, on the same targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field

from grasp_bench import seeds
from grasp_bench.contracts.method import Method, MethodSettings
from grasp_bench.contracts.recipe import ParameterKind

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

C_co = TypeVar("C_co", bound=MethodSettings, covariant=True)


class PeftMethod(Method[C_co]):
    """What is trained through peft: a subclass says how, and on which layers if not on every attention projection."""

    kind: ParameterKind = "low rank"

    def peft_config(self, targets: list[str]) -> Any:
        """peft's configuration, for the layers of these names."""
        raise NotImplementedError

    def targets(self, backbone: Backbone, task: Task[TaskSettings]) -> list[str]:
        """Names of the layers that are trained."""
        names = [name for name, _ in backbone.transformer.named_modules()]
        return [name for name in names if name.endswith(backbone.attention_projections)]

    def attach(self, backbone: Backbone, task: Task[TaskSettings], generator: torch.Generator) -> None:
        from peft import get_peft_model

        config = self.peft_config(self.targets(backbone, task))
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


class LoraSettings(MethodSettings):
    """Settings of LoRA."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; the best of six on validation images (`results/digits-lt/learning-rates.json`)"""
    rank: int = Field(default=11, ge=1, le=1024)
    """Width of the low-rank update; 11 gives about as many parameters as GRASP's defaults on tiny-sd3"""
    alpha: float = Field(default=11.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Lora(PeftMethod[LoraSettings]):
    """LoRA: low-rank updates of every attention projection, through peft"""

    Config: ClassVar[type[MethodSettings]] = LoraSettings
    version = "1"
    paper = "Hu et al. 2021, LoRA, arXiv 2106.09685; peft's implementation, targets as in diffusers' SD3 recipe"

    def peft_config(self, targets: list[str]) -> Any:
        from peft import LoraConfig

        return LoraConfig(r=self.config.rank, lora_alpha=self.config.alpha, target_modules=targets)

    def export(self, folder: Path) -> str:
        """peft's own two files, and the one that diffusers reads where its transformer can load it."""
        from peft import get_peft_model_state_dict

        from grasp_bench.io import write_tensors

        loading = super().export(folder)
        if not hasattr(self.transformer, "load_lora_adapter"):
            return loading
        prefix, scale = "base_model.model.", self.config.alpha / self.config.rank
        tensors = {
            f"transformer.{name.removeprefix(prefix)}": tensor * scale if ".lora_B." in name else tensor
            for name, tensor in get_peft_model_state_dict(self.peft_model, save_embedding_layers=False).items()
        }
        write_tensors(folder / DIFFUSERS_FILE, tensors)
        return loading + DIFFUSERS


class BesideLoraSettings(MethodSettings):
    """Settings of what is compared with LoRA."""

    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """Peak learning rate of AdamW; LoRA's, not chosen for this method"""


class DoraSettings(BesideLoraSettings):
    """Settings of DoRA."""

    rank: int = Field(default=10, ge=1, le=1024)
    """Width of the low-rank update; 10 gives 3 % fewer parameters than GRASP's defaults on tiny-sd3, magnitudes too"""
    alpha: float = Field(default=10.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Dora(PeftMethod[DoraSettings]):
    """DoRA: LoRA on the direction of every attention projection's rows, and their magnitudes, through peft

    Magnitudes begin as those of the weights in full precision, so with frozen weights stored in bfloat16 the output
    begins equal to the base model's only up to that rounding.
    """

    Config: ClassVar[type[MethodSettings]] = DoraSettings
    version = "1"
    paper = "Liu et al. 2024, DoRA, arXiv 2402.09353; peft's implementation, on the targets of our LoRA"

    def peft_config(self, targets: list[str]) -> Any:
        from peft import LoraConfig

        return LoraConfig(r=self.config.rank, lora_alpha=self.config.alpha, use_dora=True, target_modules=targets)


class LohaSettings(BesideLoraSettings):
    """Settings of LoHa."""

    rank: int = Field(default=5, ge=1, le=1024)
    """Width of both low-rank factors; 5 gives 8 % fewer parameters than GRASP's defaults on tiny-sd3, 6 11 % more"""
    alpha: float = Field(default=5.0, gt=0)
    """Scale of the update, which is multiplied by alpha / rank"""


class Loha(PeftMethod[LohaSettings]):
    """LoHa: updates of every attention projection by the elementwise product of two low-rank matrices, through peft"""

    Config: ClassVar[type[MethodSettings]] = LohaSettings
    version = "1"
    paper = (
        "Hyeon-Woo et al. 2021, FedPara, arXiv 2108.06098, as adapters since LyCORIS (Yeh et al. 2023, arXiv "
        "2309.14859); peft's implementation, on the targets of our LoRA"
    )

    def peft_config(self, targets: list[str]) -> Any:
        from peft import LoHaConfig

        return LoHaConfig(r=self.config.rank, alpha=self.config.alpha, target_modules=targets)


class OftSettings(BesideLoraSettings):
    """Settings of OFT."""

    block_size: int = Field(default=32, ge=2, le=4096)
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

    def peft_config(self, targets: list[str]) -> Any:
        from peft import OFTConfig

        return OFTConfig(oft_block_size=self.config.block_size, use_cayley_neumann=False, target_modules=targets)
