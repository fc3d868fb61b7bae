"""A prompt encoder that needs no download: every word has a fixed random vector seeded by the word itself."""

from __future__ import annotations

import functools
import re

import numpy as np
import torch

from grasp_bench import seeds
from grasp_bench.contracts.backbone import PromptEmbeddings
from grasp_bench.errors import UserError

POSITION_WEIGHT = 0.3  # keeps "a" the article and "a" the letter apart without hiding that they are one word


class WordEncoder:
    """Words to fixed vectors, padded with zeros to ``length``, plus their mean as the pooled vector.

    Words are lower-cased runs of letters, digits and apostrophes; the empty prompt is all zeros.
    """

    def __init__(self, width: int, length: int) -> None:
        self.width = width
        self.length = length
        self._vector = functools.cache(self._draw)

    def _draw(self, kind: str, key: str | int) -> np.ndarray:
        return seeds.rng("words", kind, key).standard_normal(self.width).astype(np.float32)

    def __call__(self, prompts: list[str]) -> PromptEmbeddings:
        """Tokens (B, length, width), pooled (B, width) and padding. Raises UserError for a prompt of too many words."""
        tokens = np.zeros((len(prompts), self.length, self.width), np.float32)
        pooled = np.zeros((len(prompts), self.width), np.float32)
        padding = np.ones((len(prompts), self.length), bool)
        for row, prompt in enumerate(prompts):
            words = re.findall(r"[\w']+", prompt.lower())
            if len(words) > self.length:
                raise UserError(
                    f"prompt {prompt!r}: {len(words)} words, but this backbone reads at most {self.length}; shorten it."
                )
            padding[row, : len(words)] = False
            for position, word in enumerate(words):
                vector = self._vector("word", word)
                tokens[row, position] = vector + POSITION_WEIGHT * self._vector("position", position)
                pooled[row] += vector / len(words)
        return PromptEmbeddings(torch.from_numpy(tokens), torch.from_numpy(pooled), padding=torch.from_numpy(padding))
