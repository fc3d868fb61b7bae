"""Scores of generated images from feature arrays, and of classifiers: numpy in, numbers out, without torch."""

from grasp_bench.metrics.bootstrap import Bootstrap, bootstrap
from grasp_bench.metrics.classification import ClassificationScores, classification_intervals, classification_scores
from grasp_bench.metrics.counts import Counts, plan_counts
from grasp_bench.metrics.frechet import frechet_distance, frechet_distance_infinity
from grasp_bench.metrics.groups import draw, equal_counts, group_members
from grasp_bench.metrics.kernel import KernelEstimate, kernel_distance, kernel_distance_subsets
from grasp_bench.metrics.measured import Measured
from grasp_bench.metrics.memorisation import Authenticity, Matches, authenticity, near_duplicates
from grasp_bench.metrics.neighbours import nearest, nearest_other
from grasp_bench.metrics.prdc import PRDC, prdc
from grasp_bench.metrics.protocol import Protocol
from grasp_bench.metrics.resampling import Resampled
from grasp_bench.metrics.retrieval import RetrievalScore, irs
from grasp_bench.metrics.scoring import LabelledFeatures, group_scores
from grasp_bench.metrics.vendi import vendi_score

__all__ = [
    "PRDC",
    "Authenticity",
    "Bootstrap",
    "ClassificationScores",
    "Counts",
    "KernelEstimate",
    "LabelledFeatures",
    "Matches",
    "Measured",
    "Protocol",
    "Resampled",
    "RetrievalScore",
    "authenticity",
    "bootstrap",
    "classification_intervals",
    "classification_scores",
    "draw",
    "equal_counts",
    "frechet_distance",
    "frechet_distance_infinity",
    "group_members",
    "group_scores",
    "irs",
    "kernel_distance",
    "kernel_distance_subsets",
    "near_duplicates",
    "nearest",
    "nearest_other",
    "plan_counts",
    "prdc",
    "vendi_score",
]
