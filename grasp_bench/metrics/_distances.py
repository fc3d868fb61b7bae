"""Nearest neighbours and balls by exact distances, in bounded memory.

Squared distances come from matrix products, which are fast and lose digits: of features that are integers, ties would
be decided by rounding. Wherever a bound on that rounding leaves a comparison open, the two rows are subtracted and
compared again. So every result is the one that Σ (xᵢ − yᵢ)² in float64 gives, whatever the order of rows, the blocks
and the features' zero.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from grasp_bench.metrics._arrays import row_blocks, size_of_blocks

_EXACT = 2.0**50
"""Sums of squares of integers, and the products of such rows, are free of rounding up to here: below 2⁵³ with room."""


def neighbour_distances(features: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of every row of ``features`` (n, d) to its k-th nearest other row: (n,)."""
    found = np.empty(len(features))
    for rows, least, own_error, errors in _blocks(features, features):
        least[np.arange(len(least)), np.arange(rows.start, rows.stop)] = np.inf
        near = np.argpartition(least, k - 1, axis=1)[:, :k]
        most = (np.take_along_axis(least, near, axis=1) + 2 * errors[near]).max(axis=1) + 2 * own_error
        first, second = np.nonzero(least <= most[:, None])  # at least k of each row
        exact = _exact(features, features, first + rows.start, second)
        order = np.lexsort((exact, first))
        found[rows] = exact[order][np.searchsorted(first, np.arange(len(least))) + k - 1]
    return found


def within(
    x: np.ndarray, y: np.ndarray, x_radii: np.ndarray, y_radii: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Which rows of ``x`` (n, d) and ``y`` (m, d) are no further apart than the radius of either.

    Given squared radii (n,) and (m,), blocks of rows of ``x`` are yielded: whether each row of ``y`` is in the ball of
    the row of ``x``, whether it is within that ball and not on its edge, and whether the row of ``x`` is in the ball of
    the row of ``y``: (rows, m) each.
    """
    for rows, least, own_error, errors in _blocks(x, y):
        largest = own_error.max()

        def balls(radii: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            closed = least <= radii + largest  # noqa: B023
            first, second = np.nonzero(closed)
            limits = np.broadcast_to(radii, closed.shape)[first, second]
            unsure = least[first, second] + own_error[first] + 2 * errors[second] >= limits  # noqa: B023
            first, second, limits = first[unsure], second[unsure], limits[unsure]
            exact = _exact(x, y, first + rows.start, second)  # noqa: B023
            closed[first, second] = exact <= limits
            open_ = closed.copy()
            open_[first, second] = exact < limits
            return closed, open_

        yield *balls(x_radii[rows, None]), balls(y_radii[None, :])[0]


def nearest(queries: np.ndarray, reference: np.ndarray, own: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Index (n,) and Euclidean distance (n,) of the row of ``reference`` (m, d) nearest to each of ``queries`` (n, d).

    Where queries are rows of ``reference`` themselves, ``own`` (n,) says which, and the nearest other row is found.
    Among rows that are equally near, the one whose values come first in lexicographic order is taken, so that the order
    of rows does not matter; among equal rows, the first.
    """
    indices, found = np.empty(len(queries), dtype=np.int64), np.empty(len(queries))
    for rows, least, own_error, errors in _blocks(queries, reference):
        numbers = np.arange(len(least))
        if own is not None:
            least[numbers, own[rows]] = np.inf
        near = least.argmin(axis=1)
        most = least[numbers, near] + 2 * errors[near] + 2 * own_error
        first, second = np.nonzero(least <= most[:, None])  # at least one of each row
        exact = _exact(queries, reference, first + rows.start, second)
        found[rows] = np.minimum.reduceat(exact, np.searchsorted(first, numbers))
        tied = exact == found[rows][first]
        first, second = first[tied], second[tied]
        if len(first) > len(least):
            several, position = np.unique(second, return_inverse=True)
            places = np.unique(reference[several], axis=0, return_inverse=True)[1].reshape(-1)
            order = np.lexsort((second, places[position], first))
            first, second = first[order], second[order]
        indices[rows] = second[np.searchsorted(first, numbers)]
    return indices, np.sqrt(found)


def _blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Blocks of rows of ``x`` with lower bounds of their squared distances to all of ``y``: (rows, m).

    The third and fourth array hold a bound of the error for each row of the block (rows,) and for each of ``y`` (m,): a
    squared distance is no less than the lower bound less the error of the row of ``x``, and no more than the lower
    bound, that error and twice the error of the row of ``y`` together.
    """
    some = y[:: 1 + len(y) // 64]
    # distances lose fewer digits about the centre; a median is not drawn away by single rows that lie far out, and one
    # that is a row's own value keeps integers integers
    centre = np.partition(some, len(some) // 2, axis=0)[len(some) // 2]
    x, y = x - centre, y - centre
    x_squares, y_squares = (np.einsum("nd,nd->n", each, each) for each in (x, y))
    if not np.isfinite(x_squares.max() + y_squares.max()):
        raise ValueError("features are so large that their squares are infinite: divide them by a constant")
    x_errors, y_errors = _errors(x.shape[1], x_squares, y_squares, _are_integers(x) and _are_integers(y))
    least = y_squares - y_errors
    for rows in row_blocks(len(x), len(y)):
        block = x[rows] @ y.T
        block *= -2
        block += x_squares[rows, None]
        block += least
        yield rows, block, x_errors[rows], y_errors


def _errors(d: int, x_squares: np.ndarray, y_squares: np.ndarray, integers: bool) -> tuple[np.ndarray, np.ndarray]:
    """What each row of either set adds to the error of a distance: (n,), (m,).

    A product of d terms errs by at most d u ‖x‖‖y‖ (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    section 3.1), with u half of the machine's epsilon; squares, sums and the shift to the centre add a few u of
    (‖x‖ + ‖y‖)² ≤ 4 max(‖x‖², ‖y‖²). Small integers have no error.
    """
    scale = 8 * (d + 8) * float(np.finfo(np.float64).eps)
    of_x, of_y = (np.where(integers & (each <= _EXACT), 0.0, scale * each) for each in (x_squares, y_squares))
    return of_x, of_y


def _are_integers(features: np.ndarray) -> bool:
    return all((features[rows] == np.rint(features[rows])).all() for rows in row_blocks(*features.shape))


def _exact(x: np.ndarray, y: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Σ (xᵢ − yᵢ)² of the rows ``first`` (p,) of ``x`` and ``second`` (p,) of ``y``: (p,)."""
    found = np.empty(len(first))
    step = max(1, size_of_blocks() // (4 * x.shape[1]))
    for start in range(0, len(first), step):
        pairs = slice(start, start + step)
        found[pairs] = np.square(x[first[pairs]] - y[second[pairs]]).sum(axis=1)
    return found
