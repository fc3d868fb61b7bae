"""How often a step may wait for the GPU, and where it may work in double precision. Lower a number when it can be.

A step waits where the host reads something from the GPU, and where it sends something there out of memory that is not
pinned. What only the first step sends is not counted.
"""

SAMPLING = {
    "adaptive": 1,  # which samples of the batch it guides
    "gfcg": 5,  # the classes that samples are taken for, and their prompts
    "linear-ag": 1,  # the step's coefficients
    "sg-minority": 1,  # draws on the host
    "sparse": 2,  # which tokens are left out, drawn on the host
}
"""Guidance → waits of a sampling step; none of any other."""

DOUBLE = {"oc", "apg"}
"""Methods and guidances that compute in double precision on purpose."""
