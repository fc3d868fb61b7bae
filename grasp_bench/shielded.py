"""Importing this module first keeps a broken package from ending the libraries that look for plugins of theirs."""

from grasp_bench.packages import shield

shield()
