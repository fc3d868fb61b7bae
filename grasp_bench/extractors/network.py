"""The base of extractors that are torch networks: image sizes, batches, devices, precision."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from grasp_bench.contracts.extractor import PretrainedExtractor
from grasp_bench.errors import UserError
from grasp_bench.text import counted

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Preprocessing:
    """Resize the whole image to ``size`` (H, W), antialiased; scale to [0, 1]; subtract ``mean``, divide by ``std``.

    Nothing is cropped and the aspect is not kept, so that every pixel counts; for square images this equals the usual
    resize of the shorter side with a crop of the whole.
    """

    size: tuple[int, int]
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, 3, H, W) → float32 (n, 3, *size)."""
        import torch
        from torch.nn import functional

        values = images.float()
        if tuple(images.shape[2:]) != self.size:
            values = functional.interpolate(values, self.size, mode=self.interpolation, antialias=True)
        values = values.clamp(0, 255) / 255  # bicubic overshoots
        mean, std = (torch.tensor(each, device=values.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return (values - mean) / std

    def identity(self) -> dict[str, str]:
        """The preprocessing in words, for an extractor's identity."""
        height, width = self.size
        return {
            "resize": f"to {height}x{width}, {self.interpolation}, antialiased in float32, no crop, aspect not kept",
            "normalisation": f"mean {', '.join(map(str, self.mean))}; std {', '.join(map(str, self.std))}; of [0, 1]",
        }


class NetworkExtractor(PretrainedExtractor):
    """A network behind a preprocessing; without one, it takes uint8 images of any size and prepares them itself."""

    def __init__(self, model: Any, identity: dict[str, str], preprocessing: Preprocessing | None = None) -> None:
        self.model, self.preprocessing = model, preprocessing
        self.identity = identity | (preprocessing.identity() if preprocessing else {})
        self.device = "cpu"

    def to(self, device: str) -> Self:
        self.model.to(device)
        self.device = device
        return self

    def features(self, images: Iterable[np.ndarray], batch_size: int = 64) -> np.ndarray:
        import numpy as np
        import torch

        from grasp_bench.precision import exact_convolutions

        images = list(images)
        starts = range(0, len(images), batch_size)
        with torch.inference_mode(), exact_convolutions():
            return np.concatenate([self._batch(images[start : start + batch_size]) for start in starts])

    def network(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W), float32 from the preprocessing or else uint8 → (n, d)."""
        outputs: torch.Tensor = self.model(inputs)
        return outputs

    def _batch(self, images: list[np.ndarray]) -> np.ndarray:
        import numpy as np
        import torch

        by_size: dict[tuple[int, ...], list[int]] = {}
        for position, image in enumerate(images):
            by_size.setdefault(image.shape[1:], []).append(position)
        inputs = [  # as RGB, uint8 (k, 3, H, W), for every size that occurs
            torch.from_numpy(np.stack([np.broadcast_to(images[i], (3, *size)) for i in group])).to(self.device)
            for size, group in by_size.items()
        ]
        if self.preprocessing is not None:
            inputs = [torch.cat([self.preprocessing(each) for each in inputs])]
        rows = torch.cat([self._rows(each) for each in inputs]).numpy()
        return rows[np.argsort(np.concatenate(list(by_size.values())))]

    def _rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """The network's outputs on the CPU, float64 (n, d)."""
        import torch

        outputs = self.network(inputs)
        if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2 or len(outputs) != len(inputs):
            found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise UserError(
                f"{self.identity['extractor']}: gives {found} for {counted(len(inputs), 'image')}, expected a tensor "
                f"of shape ({len(inputs)}, d)."
            )
        return outputs.double().cpu()
