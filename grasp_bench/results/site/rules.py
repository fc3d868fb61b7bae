"""The fairness rules, as docs/protocol.md opens with them."""

RULES = (
    "Same task version, backbone, budget, data order, noise, timesteps, sampler and image count for every method.",
    "Hyper-parameters, the guidance scale included, are chosen with the same number of trials for every method, on "
    "validation data, and published.",
    "A leaderboard has at least five seeds; fewer are marked provisional. Intervals say what they resample: seed, "
    "patient, image.",
    "Groups are compared at equal counts and beside the real reference (real images against held-out real ones).",
    "Which methods differ and which could be best is said with an error that is held over all of them at once.",
    "Results under one Major.Minor of the rules are comparable; anything else is not put in one table.",
)
