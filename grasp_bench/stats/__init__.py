"""Statistics over runs: intervals, paired tests, tiers, mean ranks and aggregates. Arrays in, numbers out."""

from grasp_bench.stats.aggregate import Aggregate, interquartile_mean, stratified_bootstrap
from grasp_bench.stats.holm import holm
from grasp_bench.stats.intervals import SeedInterval, half_width, mean_interval
from grasp_bench.stats.paired import PairedDifference, Test, least_p, paired_difference
from grasp_bench.stats.ranks import Friedman, cliques, critical_difference, friedman
from grasp_bench.stats.tiers import Tiers, tiers

__all__ = [
    "Aggregate",
    "Friedman",
    "PairedDifference",
    "SeedInterval",
    "Test",
    "Tiers",
    "cliques",
    "critical_difference",
    "friedman",
    "half_width",
    "holm",
    "interquartile_mean",
    "least_p",
    "mean_interval",
    "paired_difference",
    "stratified_bootstrap",
    "tiers",
]
