"""Settings with which a method or a guidance does in small what takes long by default."""

QUICK: dict[str, dict[str, int]] = {"prior": {"prior_images": 1, "prior_steps": 1}}
"""Method → what is asked of it where its defaults are beside the point."""


def quick(method: str) -> list[str]:
    """As ``NAME=VALUE``; none for most methods."""
    return [f"{name}={value}" for name, value in QUICK.get(method, {}).items()]


GUIDANCES: dict[str, list[str]] = {
    "attribute": ["images=2", "noises=1"],
    "classifier": ["epochs=2"],
    "distilled": ["steps=5", "trajectories=1", "batch_size=16"],
    "gfcg": ["epochs=2"],
    "linear-ag": ["trajectories=10"],
    "ltg": ["epochs=2", "classifiers=2"],
    "ppap": ["epochs=2", "experts=2", "samples=1", "expert_steps=3"],
    "sg-minority": ["every=2"],
}
"""Guidance → settings under which it acts in four steps, and learns in a second."""


def quick_guidance(guidance: str) -> list[str]:
    """Settings of a guidance as ``NAME=VALUE``; none for most."""
    return GUIDANCES.get(guidance, [])
