"""What a scheme, its queries and its batches do to second moments, in five numbers."""

from dataclasses import dataclass

from zotk.arguments import integer

__all__ = ["BATCHES", "SCHEMES", "Coefficients", "coefficients", "noise_share"]

SCHEMES = (
    "plain",
    "shared",
    "independent",
    "first-order",
    "sphere",
    "orthogonal",
    "signs",
)
BATCHES = ("same", "fresh")


@dataclass(frozen=True)
class Coefficients:
    """E ĝĝ' has the diagonal p λ_i² m_i + (a λ_i + f) (q + s²) + c Σ_j λ_j² m_j, and E ĝ = b He.

    Here m_i are the second moments along the eigenvectors of H, q = Σ_j λ_j m_j, and s² is the
    variance of the targets around the model.
    """

    b: float
    p: float
    a: float
    f: float
    c: float


def coefficients(
    d: int,
    trace: float,
    *,
    scheme: str,
    queries: int,
    minibatch: int | None,
    population: int | None,
    batches: str,
) -> Coefficients:
    """The coefficients in d dimensions for inputs with Gaussian fourth moments, tr H = trace.

    With M = E gg' for the gradient g of one batch, E ĝĝ' is the mean of E[zz' M zz'] over the P
    pairs of equal queries and of E[zz' M* ζζ'] over the P (P - 1) pairs of different ones, where
    M* is M if all directions share a batch and HAH if each has its own; and M is (1 + φ) HAH +
    φ (q + s²) H, with φ = ``noise_share``. Raises ValueError as ``mean_square`` does.
    """
    if batches not in BATCHES:
        raise ValueError(f"batches is {batches!r}; one of {', '.join(BATCHES)} is needed")
    integer("queries", queries, 1)
    phi = noise_share(minibatch, population)
    b, own, other = _pairs(scheme, d, queries)
    equal = 1 / queries
    p = a = f = c = 0.0
    for weight, (p_z, c_z), share in (
        (equal, own, phi),
        (1 - equal, other, phi if batches == "same" else 0.0),
    ):
        p += weight * p_z * (1 + share)
        a += weight * p_z * share
        c += weight * c_z * (1 + share)
        f += weight * c_z * share * trace
    return Coefficients(b, p, a, max(f, 0.0), max(c, 0.0))  # a whole block has c = 0 exactly


def noise_share(minibatch: int | None, population: int | None) -> float:
    """φ: the variance of a batch's mean over that of an example.

    1/n with replacement (``population`` None); (N - n)/(n (N - 1)) for n of N without; 0 for the
    full batch, ``minibatch`` None.
    """
    if minibatch is None:
        if population is not None:
            raise ValueError(f"population is {population}, minibatch None; give both or neither")
        return 0.0
    integer("minibatch", minibatch, 1)
    if population is None:
        return 1 / minibatch
    integer("population", population, minibatch)
    return (population - minibatch) / (minibatch * max(1, population - 1))


def _pairs(
    scheme: str, d: int, queries: int
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """b; p and c of a query with itself; p and c of two different queries of one step."""
    # E[zz'Azz'] = 2A + tr(A) I (Isserlis); lengths and directions of a Gaussian are independent,
    # with E|z|⁸/E|z|⁴ = (d+4)(d+6); for ζ apart, E[ζζ'(ζ'z)²] = 2zz' + |z|² I comes first
    fourth = (d + 4) * (d + 6)
    sphere = (2 * d / (d + 2), d / (d + 2))
    moments: dict[str, tuple[float, tuple[float, float]]] = {
        "plain": (1, (2, 1)),
        "shared": (d + 2, (2 * fourth, fourth)),
        "independent": (1, (4, d + 4)),
        "first-order": (1, (1, 0)),
        "sphere": (1, sphere),
        "orthogonal": (1, sphere),
        "signs": (1, (0, 1)),  # on the diagonal, where H is diagonal
    }
    if scheme not in moments:
        raise ValueError(f"scheme is {scheme!r}; one of {', '.join(SCHEMES)} is needed")
    b, own = moments[scheme]
    if scheme == "orthogonal" and queries > d:
        raise ValueError(f"queries is {queries}; at most d = {d} are orthogonal")
    if scheme != "orthogonal" or d == 1:
        return b, own, (b**2, 0)
    # E[u_i u_j v_k v_l] of two orthonormal vectors, from the means of (u'v)² = 0 and |u|²|v|² = 1
    scale = (d + 2) * (d - 1)
    return b, own, (d**2 / scale, -d / scale)
