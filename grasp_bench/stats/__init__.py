"""Statistics over runs: intervals, paired tests, tiers, mean ranks and aggregates. Arrays in, numbers out."""

from grasp_bench.stats.aggregate import Aggregate, stratified_bootstrap
from grasp_bench.stats.paired import Test, half_width, holm, least_p, mean_interval, paired_difference
from grasp_bench.stats.ranks import cliques, critical_difference, friedman
from grasp_bench.stats.tiers import tiers

__all__ = [
    "Aggregate",
    "Test",
    "cliques",
    "critical_difference",
    "friedman",
    "half_width",
    "holm",
    "least_p",
    "mean_interval",
    "paired_difference",
    "stratified_bootstrap",
    "tiers",
]
