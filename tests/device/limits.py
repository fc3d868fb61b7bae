"""How often a step may wait for the GPU, and where it may work in double precision. Lower a number when it can be.

A step waits where the host reads something from the GPU, and where it sends something there out of memory that is not
pinned. What only the first step sends is not counted.
"""

TRAINING = {
    "cbdm": 1,  # other prompts for the same images
    "grasp": 4,  # the segments of the route
    "grasp-timestep": 4,  # likewise
    "oc": 1,  # the classes' counts
    "shared-adapter": 4,  # likewise
    "timestep-experts": 4,  # likewise
}
"""Method → waits of a training step; none of any other."""

OF_ROUTE = 4
"""Waits of each forward pass in sampling under a method that routes."""
SAMPLING = {
    "adaptive": 1,  # which samples of the batch it guides
    "cfg-interval": 1,  # likewise
    "gfcg": 5,  # the classes that samples are taken for, and their prompts
    "sg-minority": 2,  # whether the step is guided, and draws on the host
    "sparse": 2,  # which tokens are left out, drawn on the host
}
"""Guidance → waits of a sampling step; none of any other."""

DOUBLE = {"oc", "apg"}
"""Methods and guidances that compute in double precision on purpose."""
