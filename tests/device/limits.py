"""How often a step may wait for the GPU, and where it may work in double precision. Lower a number when it can be.

A step waits where the host reads something from the GPU, and where it sends something there out of memory that is not
pinned. What only the first step sends is not counted.
"""

SAMPLING = {
    "adaptive": 1,  # which samples of the batch it guides
    "gfcg": 1,  # the classes that samples are taken for
}
"""Guidance → waits of a sampling step; none of any other."""

DOUBLE = {"oc", "apg", "pcgrad", "cagrad"}
"""Methods and guidances that compute in double precision on purpose."""
