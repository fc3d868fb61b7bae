"""The page: leaderboards, charts, images and runs in one HTML file."""

from grasp_bench.results.site.write import write_site

__all__ = ["write_site"]
