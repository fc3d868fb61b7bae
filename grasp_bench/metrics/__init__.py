"""Scores of generated images from feature arrays, and of classifiers: numpy in, numbers out, without torch."""

from grasp_bench.metrics.frechet import frechet_distance, frechet_distance_infinity
from grasp_bench.metrics.kernel import kernel_distance
from grasp_bench.metrics.prdc import prdc
from grasp_bench.metrics.retrieval import irs
from grasp_bench.metrics.vendi import vendi_score

__all__ = ["frechet_distance", "frechet_distance_infinity", "irs", "kernel_distance", "prdc", "vendi_score"]
