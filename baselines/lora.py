"""LoRA on the attention layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from grasp_bench.contracts.method import MethodSettings

from .peft_family import PeftMethod

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"  # with alpha / rank in it: not every version reads them elsewhere
DIFFUSERS = f"""
In diffusers, on the base model's pipeline or its transformer:

```python
pipeline.load_lora_weights("FOLDER", weight_name="{DIFFUSERS_FILE}")
transformer.load_lora_adapter("FOLDER", weight_name="{DIFFUSERS_FILE}")
```
"""


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
