"""Settings with which a method does in small what takes long before its training by default."""

QUICK: dict[str, dict[str, int]] = {"prior": {"prior_images": 1, "prior_steps": 1}}
"""Method → what is asked of it where its defaults are beside the point."""


def quick(method: str) -> list[str]:
    """As ``NAME=VALUE``; none for most methods."""
    return [f"{name}={value}" for name, value in QUICK.get(method, {}).items()]
