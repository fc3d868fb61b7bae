"""Statistics over runs."""

from grasp_bench.stats.intervals import SeedInterval, mean_interval

__all__ = ["SeedInterval", "mean_interval"]
