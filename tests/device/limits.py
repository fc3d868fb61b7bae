"""How often a step may wait for the GPU, and where it may work in double precision. Lower a number when it can be."""

TRAINING = 4
"""Waits of a training step of any method: the loss and its norm are checked, and losses of groups are summed."""
OF_METHOD = {
    "cbdm": 1,  # other prompts for the same images
    "cm": 2,  # what it rewarded and limited, for the log
    "grasp": 4,  # the segments of the route
    "grasp-timestep": 4,  # likewise
    "moe": 2,  # the use of experts by group, for the log
    "moe-sample": 2,  # likewise
    "oc": 2,  # whose targets were transferred, for the log
    "shared-adapter": 4,  # as grasp
    "timestep-experts": 4,  # likewise
}
"""Method → how many more it may have."""
BATCH_OF_DIFFUSION = 1
"""Waits of making a batch under DDPM's diffusion, where the amplitudes of timesteps are looked up on the host."""
BY_DIFFUSION = {"oc": 3}
"""Method → how many more its losses have under DDPM's diffusion, for the same reason."""

SAMPLING = 0
"""Waits of a sampling step."""
OF_ROUTE = 4
"""How many more each forward pass has under a method that routes."""
OF_GUIDANCE = {"adaptive": 1, "cfg-interval": 1, "gfcg": 2}
"""Guidance → how many more: which samples of the batch it guides, or prompts of which classes it needs."""

DOUBLE = {"oc", "apg"}
"""Methods and guidances that compute in double precision on purpose."""
