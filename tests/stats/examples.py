"""Data of randomised complete block designs from textbooks: (methods, blocks)."""

import numpy as np

# Montgomery, Design and Analysis of Experiments, example 4.1: yield of vascular grafts at four extrusion pressures, in
# six batches of resin. Mean squares 59.39 and 7.33, F = 8.11 on 3 and 15 degrees of freedom, p = 0.0019.
GRAFTS = np.array(
    [
        [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
        [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
        [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
        [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
    ]
)

# Box, Hunter and Hunter, Statistics for Experimenters, section 4.2: yield of penicillin by four variants of the
# process, in five blends of corn steep liquor. Residual mean square 18.8, F = 1.24 on 3 and 12 degrees of freedom, p =
# 0.34.
PENICILLIN = np.array(
    [[89, 84, 81, 87, 79], [88, 77, 87, 92, 81], [97, 92, 87, 89, 80], [94, 79, 85, 84, 88]], dtype=np.float64
)

# Dunnett, JASA 50, 1955, table 1: blood counts of a control group and of animals under two drugs.
BLOOD = (
    np.array([7.40, 8.50, 7.20, 8.24, 9.84, 8.32]),
    np.array([9.76, 8.80, 7.68, 9.36]),
    np.array([12.80, 9.68, 12.16, 9.20, 10.55]),
)
