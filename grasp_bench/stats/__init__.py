"""Statistics over runs: intervals, comparisons of methods, paired tests, mean ranks and aggregates.

Arrays in, numbers out.
"""

from grasp_bench.stats.aggregate import Aggregate, stratified_bootstrap
from grasp_bench.stats.blocks import FEWEST_SEEDS, Blocks, NoSharedSeedsError, blocks
from grasp_bench.stats.comparisons import (
    WithBaseline,
    all_pairs,
    could_be_best,
    false_discovery_rate,
    rank_intervals,
    single_p,
    with_baseline,
)
from grasp_bench.stats.paired import Test, half_width, holm, least_p, mean_interval, paired_difference
from grasp_bench.stats.ranks import cliques, critical_difference, friedman

__all__ = [
    "FEWEST_SEEDS",
    "Aggregate",
    "Blocks",
    "NoSharedSeedsError",
    "Test",
    "WithBaseline",
    "all_pairs",
    "blocks",
    "cliques",
    "could_be_best",
    "critical_difference",
    "false_discovery_rate",
    "friedman",
    "half_width",
    "holm",
    "least_p",
    "mean_interval",
    "paired_difference",
    "rank_intervals",
    "single_p",
    "stratified_bootstrap",
    "with_baseline",
]
