"""Tasks with one fault each; but for it they are digits-lt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from grasp_bench.contracts.spec import by_name, smoke
from grasp_bench.contracts.task import Dataset
from grasp_bench.tasks.digits_lt import DigitsLT


class NoStandard(DigitsLT):
    """Digits without a leaderboard"""

    budgets = by_name(smoke())


class OnePrompt(DigitsLT):
    """Digits that are all called the same"""

    def classes(self):
        return [replace(info, prompt="a digit") for info in super().classes()]


class Misspelt(DigitsLT):
    """Digits that are scored by an extractor that there is not"""

    extractors = ("digit-cnn",)


class RareHead(DigitsLT):
    """Digits whose rarest class is head"""

    def classes(self):
        *others, last = super().classes()
        return [*others, replace(last, group="head")]


class Restless(DigitsLT):
    """Digits that are drawn again by numpy's global generator"""

    def _split(self, labels):
        return [np.random.permutation(part) for part in super()._split(labels)]


class Miscounted(DigitsLT):
    """Digits of which there are fewer than is said"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        train = data.train
        kept = np.arange(1, len(train))
        fewer = replace(train, ids=train.ids[1:], labels=train.labels[1:], prompts=train.prompts[1:])
        return replace(data, train=replace(fewer, read=lambda indices: train.read(kept[indices])))


class Overlapping(DigitsLT):
    """Digits that are tested on what they were trained on"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        return replace(data, test=data.train)


class SamePatients(DigitsLT):
    """Digits that one hand has written"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        return Dataset(
            *(replace(part, patients=np.full(len(part), "me")) for part in (data.train, data.validation, data.test))
        )


class Unlabelled(DigitsLT):
    """Digits with a class that there is not"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        return replace(data, test=replace(data.test, labels=data.test.labels + 1))


class Sorted(DigitsLT):
    """Digits that come in an order of their own"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        test = data.test
        return replace(data, test=replace(test, read=lambda indices: test.read(np.sort(indices))))


class InFloat(DigitsLT):
    """Digits between 0 and 1"""

    def open(self, folder, shape):
        data = super().open(folder, shape)
        read = data.train.read
        return replace(data, train=replace(data.train, read=lambda indices: read(indices) / 255))


class Elsewhere(DigitsLT):
    """Digits that have to be downloaded"""

    layout = "FOLDER/digits"
