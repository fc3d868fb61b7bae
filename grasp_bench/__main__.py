"""``python -m grasp_bench``: the command line, for launchers that start modules."""

from grasp_bench.cli import main

main()
