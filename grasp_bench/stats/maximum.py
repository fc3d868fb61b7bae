"""How large the largest of several correlated t statistics gets by chance: Dunnett's distribution and Tukey's.

Dunnett, A multiple comparison procedure for comparing several treatments with a control, JASA 50, 1955; Hsu, Multiple
Comparisons: Theory and Methods, 1996, chapters 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

NORMAL_NODES = 48
RANGE_NODES = 96
CHI_NODES = 24
OTHER_NODES = 12


@dataclass(frozen=True)
class Against:
    """Comparisons of m methods with one, each (its mean − that of the one) over the error of that difference.

    Where nothing differs they are t_j = (Z_j √(1 − common_j) + Z √common_j) / S_j with independent standard normal Z
    and Z_j, and S_j² = shared_j U + (1 − shared_j) U_j with independent U = χ²/df and U_j = χ²/dfs_j.
    """

    common: np.ndarray
    """Share of each comparison's variance that is due to the one, (m,); 0.5 for equal variances."""
    shared: np.ndarray
    """Share of each comparison's estimated variance that is the same estimate in all, (m,)."""
    df: float
    """Degrees of freedom of that estimate."""
    dfs: np.ndarray
    """Degrees of freedom of the rest of each, (m,)."""

    def __post_init__(self) -> None:
        """Raise ValueError for shares outside [0, 1) or [0, 1], and degrees of freedom below 1."""
        shares = ((self.common >= 0) & (self.common < 1) & (self.shared >= 0) & (self.shared <= 1)).all()
        if not shares or not self.df >= 1 or not (self.dfs >= 1).all():
            raise ValueError(f"expected shares of variance in [0, 1) and df of at least 1, got {self}")

    @property
    def freedom(self) -> np.ndarray:
        """Degrees of freedom of each comparison alone, (m,), by Satterthwaite's approximation."""
        return np.asarray(1 / (self.shared**2 / self.df + (1 - self.shared) ** 2 / self.dfs))

    def bounds(self, alpha: float, *, two_sided: bool) -> np.ndarray:
        """Return what each comparison exceeds with chance ``alpha`` if it is the only one: (m,)."""
        from scipy.special import stdtrit

        return np.asarray(-stdtrit(self.freedom, alpha / 2 if two_sided else alpha))

    def any_exceeds(self, bounds: ArrayLike, *, two_sided: bool) -> float:
        """Return the chance that any comparison exceeds its bound where nothing differs; good to three digits.

        The absolute comparisons are meant if ``two_sided``.
        """
        from scipy.special import ndtr

        (z, z_weight), (u, u_weight) = _normal_nodes(NORMAL_NODES), _chi_nodes(float(self.df), CHI_NODES)
        inside = np.ones((len(u), len(z)))
        kinds = np.stack(np.broadcast_arrays(bounds, self.common, self.shared, self.dfs), axis=1)
        for (bound, common, shared, df), times in zip(*np.unique(kinds, axis=0, return_counts=True), strict=True):
            v, v_weight = _chi_nodes(float(df), OTHER_NODES) if shared < 1 else (np.ones(1), np.ones(1))
            limit = bound * np.sqrt(shared * np.square(u)[:, None, None] + (1 - shared) * np.square(v)[:, None])
            shift, spread = np.sqrt(common) * z, np.sqrt(1 - common)
            below = ndtr((limit - shift) / spread)  # (u, v, z)
            if two_sided:
                below = np.maximum(below - ndtr((-limit - shift) / spread), 0.0)
            inside *= (v_weight @ below) ** int(times)
        return float(np.clip(1 - u_weight @ inside @ z_weight, 0.0, 1.0))

    def adjusted(self, single: np.ndarray, *, two_sided: bool) -> np.ndarray:
        """Return the chance that any comparison alone has a p as small as each ``single`` (m,) p: (m,)."""
        return np.array(
            [self.any_exceeds(self.bounds(each, two_sided=two_sided), two_sided=two_sided) for each in single.tolist()]
        )

    def critical(self, alpha: float, *, two_sided: bool) -> np.ndarray:
        """Return bounds (m,) of which any is exceeded with chance ``alpha``, each as often as any other."""
        from scipy.optimize import brentq

        def beyond(log: float) -> float:
            return self.any_exceeds(self.bounds(np.exp(log), two_sided=two_sided), two_sided=two_sided) - alpha

        least = np.log(alpha / len(self.common))  # by Bonferroni's inequality; with room for errors of the integration
        found = brentq(beyond, least - 3, np.log(0.999), xtol=1e-5)
        return self.bounds(float(np.exp(found)), two_sided=two_sided)


def largest_range(q: ArrayLike, methods: int, df: float) -> np.ndarray:
    """Return the chance that a studentized range exceeds each of ``q`` (n,): Tukey's distribution.

    ``scipy.stats.studentized_range`` has more digits, at a tenth of a second each. Raises ValueError for fewer
    than two methods and degrees of freedom below 1.
    """
    from scipy.special import ndtr

    if methods < 2 or not df >= 1:
        raise ValueError(f"expected at least 2 methods and df of at least 1, got {methods} and {df}")
    (z, z_weight), (s, s_weight) = _normal_nodes(RANGE_NODES), _chi_nodes(float(df), CHI_NODES)
    at = ndtr(z)
    chances = [
        1 - methods * float(s_weight @ (at - ndtr(z - one * s[:, None])) ** (methods - 1) @ z_weight)
        for one in np.asarray(q, dtype=np.float64).tolist()
    ]
    return np.clip(chances, 0.0, 1.0)


@lru_cache(maxsize=2)
def _normal_nodes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for a standard normal Z."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    density = np.exp(-((8 * nodes) ** 2) / 2)
    return 8 * nodes, weights * density / (weights @ density)


@lru_cache(maxsize=256)
def _chi_nodes(df: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights for S = √(χ²/df)."""
    from scipy.special import chdtri, xlogy

    nodes, weights = np.polynomial.legendre.leggauss(count)
    low, high = np.sqrt(chdtri(df, [1 - 1e-12, 1e-12]) / df)
    s = low + (high - low) * (nodes + 1) / 2
    logs = xlogy(df - 1, s) - df * s**2 / 2
    weights = weights * np.exp(logs - logs.max())
    return s, weights / weights.sum()
