"""What every metric is, which way is better, and when it misleads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A metric in plain words."""

    what: str
    misleads: str
    """When a good value means less than it seems."""


FEATURES = "It sees no more than the feature extractor sees, which the metric's label names."
METRICS = {
    "fd": Definition(
        "Fréchet distance between the features of generated and of real test images, each taken for a Gaussian. With "
        "the Inception features of 2015 it is called FID.",
        "It falls as the number of images grows, whatever they show: compare only equal counts, and read it beside its "
        f"floor. A Gaussian misses modes. {FEATURES}",
    ),
    "fd_inf": Definition(
        "The Fréchet distance extrapolated to endlessly many generated images.",
        "The extrapolation is a straight line, which holds from about twice as many images as features have "
        f"dimensions; what the number of real images adds stays in it. {FEATURES}",
    ),
    "kid": Definition(
        "Kernel distance: the squared maximum mean discrepancy between features of generated and of real test images, "
        "with a cubic kernel. With Inception features it is called KID.",
        "It is unbiased, so values below zero occur, and with few images its spread is wider than the differences "
        f"between methods. {FEATURES}",
    ),
    "precision": Definition(
        "Share of generated images that lie within the real images, by balls that reach to the fifth neighbour.",
        "A single outlier among the real images makes a ball that accepts nearly everything; copies of training images "
        "score well.",
    ),
    "recall": Definition(
        "Share of real images that lie within the generated ones, by balls that reach to the fifth neighbour.",
        "Images that are scattered far apart make large balls, and so a high recall without looking real.",
    ),
    "density": Definition(
        "How many real images' balls a generated image lies in, on average, over five. It may exceed 1.",
        "Many images at one dense spot raise it: read it with coverage.",
    ),
    "coverage": Definition(
        "Share of real images that have a generated image in their ball: how much of the real variety is met.",
        "It depends on the number of generated images, and one image may cover many real ones.",
    ),
    "vendi": Definition(
        "Vendi score: how many entirely different images the generated ones amount to, by cosines of features.",
        "Noise is diverse too. Its floor, the score of real images, is what to come near to, not to exceed.",
    ),
    "irs": Definition(
        "Image retrieval score: the share of training images that endless generation would reach as nearest "
        "neighbours.",
        "It falls short where images are unevenly spread or few, for real images as well: prefer the adjusted score.",
    ),
    "irs_adjusted": Definition(
        "The image retrieval score over that of held-out real images at the same count: 1 is as varied as real images.",
        "With a handful of training images it takes a handful of values; copies reach training images too.",
    ),
    "authenticity": Definition(
        "Share of generated images that are no nearer to a training image than that one is to the next: those that "
        "are no copies.",
        "Images far from all real ones are authentic too. Below its floor, which real images reach, it means copying.",
    ),
}
"""Metrics of features, by their names in a record."""
CLASSIFIERS = {
    "accuracy": Definition(
        "balanced accuracy on real test images, the mean of the classes' recalls, of a classifier trained on {source}",
        "A classifier that predicts rare classes too often gains in the tail what it loses in the head.",
    ),
    "f1": Definition(
        "mean over classes of F1 on real test images, of a classifier trained on {source}",
        "It depends on how often each class is in the test set, through precision.",
    ),
    "nonzero_f1": Definition(
        "classes with an F1 above zero on real test images: those that a classifier trained on {source} finds at all",
        "One right guess is enough.",
    ),
    "auroc": Definition(
        "mean over classes of the area under the ROC curve on real test images, of a classifier trained on {source}",
        "For rare classes it is close to 1 long before the class is found: read it with average precision.",
    ),
    "average_precision": Definition(
        "mean over classes of the average precision on real test images, of a classifier trained on {source}",
        "Its value for guessing is the class's share of the test set, and so differs between classes.",
    ),
}
"""Scores of downstream classifiers, without what they are trained on."""
SOURCES = {
    "generated": ("generated images alone", ""),
    "real": (
        "the real long-tailed images alone",
        " It is the same for every method at a seed: what the training set is worth without generated images.",
    ),
    "topped-up": ("the real images, topped up with generated ones to equal classes", ""),
}
"""What classifiers are trained on → in words, and what to know of it."""
BALANCED = "_balanced"
COSTS = {
    "trainable parameters": Definition(
        "How many numbers the method trains, the backbone's or its own; those that stay frozen do not count.",
        "Few of them need not mean quick training or little memory: the gradient passes through frozen layers too.",
    ),
    "training seconds": Definition(
        "How long the training steps took by the clock, mean over seeds.",
        "It tells as much of the machine, and of what else ran on it, as of the method: compare runs of one machine, "
        "which every run's record names.",
    ),
    "evaluations per image": Definition(
        "How often an image passes forward through a network while it is sampled: the steps, times the passes that the "
        "guidance takes in each.",
        "A pass costs more where a method adds layers, and backward passes and classifiers of a guidance do not count.",
    ),
}
"""What a method costs, by the columns' titles; less is better."""
UNKNOWN = Definition("A metric that this page knows nothing of.", "Ask whoever made it.")


def definition(name: str) -> Definition:
    """What the metric ``name`` of a record is."""
    if name in METRICS:
        return METRICS[name]
    score, _, source = name.removesuffix(BALANCED).rpartition("_")
    if score not in CLASSIFIERS or source not in SOURCES:
        return UNKNOWN
    found, (trained_on, note) = CLASSIFIERS[score], SOURCES[source]
    what = found.what.format(source=trained_on)
    balanced = ", on a test set with equally many images of every class" if name.endswith(BALANCED) else ""
    return Definition(f"{what[0].upper()}{what[1:]}{balanced}.{note}", found.misleads)
