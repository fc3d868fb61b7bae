"""Scores of generated images from feature arrays, and of classifiers: numpy in, numbers out, without torch."""

from grasp_bench.metrics.classification import ClassificationScores, classification_intervals, classification_scores
from grasp_bench.metrics.frechet import frechet_distance
from grasp_bench.metrics.groups import GroupScore, draw, equal_counts, group_members, group_scores
from grasp_bench.metrics.prdc import PRDC, prdc
from grasp_bench.metrics.vendi import vendi_score

__all__ = [
    "PRDC",
    "ClassificationScores",
    "GroupScore",
    "classification_intervals",
    "classification_scores",
    "draw",
    "equal_counts",
    "frechet_distance",
    "group_members",
    "group_scores",
    "prdc",
    "vendi_score",
]
