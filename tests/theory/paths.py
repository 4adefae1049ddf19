"""Every path of a step: directions from a cubature, batches enumerated from inputs that have
Gaussian fourth moments. Nothing here knows a formula of the theory."""

import itertools
import math
from dataclasses import dataclass

import numpy as np

_NODES = np.array([-math.sqrt(3), 0.0, math.sqrt(3)])  # N(0, 1) to degree 5, weights 1:4:1


def grid(d):
    """Nodes and weights exact for polynomials of degree 5 in each coordinate of N(0, I)."""
    z = np.array(list(itertools.product(_NODES, repeat=d)))
    w = np.array([math.prod(p) for p in itertools.product([1 / 6, 4 / 6, 1 / 6], repeat=d)])
    return z, w


def circle(points):
    angle = 2 * np.pi * np.arange(points) / points
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def unit_vectors(d):
    """Nodes and weights exact for degree 7 on the unit sphere of one, two or three dimensions."""
    if d == 1:
        return np.array([[1.0], [-1.0]]), np.full(2, 1 / 2)
    if d == 2:
        return circle(8), np.full(8, 1 / 8)
    height, w = np.polynomial.legendre.leggauss(4)
    around = np.sqrt(1 - height**2)
    u = [(r * x, r * y, h) for h, r in zip(height, around, strict=True) for x, y in circle(8)]
    return np.array(u), np.repeat(w / 2, 8) / 8


def frames(d, queries):
    """Orthonormal frames of ``queries`` vectors, and weights."""
    u, w = unit_vectors(d)
    if queries == 1:
        return u[:, None], w
    if d == 2:
        return np.stack([u, u @ np.array([[0.0, 1.0], [-1.0, 0.0]])], 1), w
    found, weights = [], []
    for each, chance in zip(u, w, strict=True):
        beside = np.linalg.svd(each[None])[2][1:]  # an orthonormal basis of the complement
        for v in circle(6) @ beside:
            found.append([each, v, np.cross(each, v)][:queries])
            weights.append(chance / 6)
    return np.array(found), np.array(weights)


def single(scheme, d):
    """Matrices S of one query, and weights."""
    z, w = grid(d)
    if scheme == "first-order":
        return np.eye(d)[None], np.ones(1)
    if scheme == "signs":
        z = np.array(list(itertools.product([-1.0, 1.0], repeat=d)))
        w = np.full(len(z), 1 / len(z))
    if scheme == "sphere":
        u, w = unit_vectors(d)
        z = math.sqrt(d) * u
    zz = np.einsum("ni,nj->nij", z, z)
    if scheme == "independent":
        return np.einsum("aij,bjk->abik", zz, zz).reshape(-1, d, d), np.outer(w, w).ravel()
    return zz, w


def steps(scheme, d, queries):
    """All (S_1, …, S_P) of one step: (k, P, d, d), and weights."""
    if scheme == "orthogonal":
        u, w = frames(d, queries)
        return d * np.einsum("npi,npj->npij", u, u), w
    s, w = single(scheme, d)
    index = list(itertools.product(range(len(s)), repeat=queries))
    return s[np.array(index)], np.array([math.prod(w[list(i)]) for i in index])


def examples(spectrum, noise):
    """Inputs of covariance diag(spectrum), what their targets deviate by (each sign once), and
    weights, multiples of 6^-d and of half of it."""
    z, w = grid(len(spectrum))
    x = z * np.sqrt(spectrum)
    if noise == 0:
        return x, np.zeros(len(x)), w
    return np.repeat(x, 2, axis=0), np.tile([-noise, noise], len(x)), np.repeat(w, 2) / 2


def drawn(spectrum, noise, n, population):
    """Inputs (k, n, d) and deviations (k, n) of all batches, with weights."""
    x, xi, w = examples(spectrum, noise)
    if population is None:
        index = np.array(list(itertools.product(range(len(x)), repeat=n)))
        weights = np.prod(w[index], axis=1)
    else:  # the multiset of all examples, each batch in every order
        times = np.rint(w * population).astype(int)
        assert times.sum() == population and np.allclose(times, w * population)
        x, xi = np.repeat(x, times, axis=0), np.repeat(xi, times)
        index = np.array(list(itertools.permutations(range(population), n)))
        weights = np.full(len(index), 1 / len(index))
    return x[index], xi[index], weights


@dataclass
class Paths:
    """ĝ = G e - u, with weights: G (k, d, d), u (k, d)."""

    estimates: np.ndarray
    shaken: np.ndarray
    weights: np.ndarray


def paths(spectrum, *, scheme="plain", queries=1, minibatch=None, population=None,
          batches="same", noise=0.0):  # fmt: skip
    d = len(spectrum)
    s, chance = steps(scheme, d, queries)
    if minibatch is None:
        h = np.diag(spectrum)
        return Paths(s.mean(1) @ h, np.zeros((len(s), d)), chance)
    x, xi, w = drawn(spectrum, noise, minibatch, population)
    b = np.einsum("kni,knj->kij", x, x) / minibatch
    v = np.einsum("kni,kn->ki", x, xi) / minibatch
    if batches == "same":
        whole = s.mean(1)
        return Paths(
            np.einsum("aij,bjk->abik", whole, b).reshape(-1, d, d),
            np.einsum("aij,bj->abi", whole, v).reshape(-1, d),
            np.outer(chance, w).ravel(),
        )
    found, noisy, weights = s[:, 0] @ np.zeros((d, d)), s[:, 0] @ np.zeros(d), chance
    for k in range(queries):
        rows = np.repeat(s[:, k], len(found) // len(s), axis=0)
        found = found[:, None] + np.einsum("aij,bjk->abik", rows, b) / queries
        noisy = noisy[:, None] + np.einsum("aij,bj->abi", rows, v) / queries
        found, noisy = found.reshape(-1, d, d), noisy.reshape(-1, d)
        weights = np.outer(weights, w).ravel()
    return Paths(found, noisy, weights)


def second_moments(lr, found, momentum=0.0, nesterov=False):
    """The maps (T, source) of E ss' for the state s = (e, v): A -> T(A) + source, as matrices.

    The step is that of torch.optim.SGD: v' = βv + ĝ, e' = e - lr v' or e - lr (ĝ + βv').
    """
    d = found.estimates.shape[-1]
    g, eye, zero = found.estimates, np.eye(d), np.zeros_like(found.estimates)
    beta = momentum * eye + zero
    ahead = 1 + momentum if nesterov else 1.0
    back = momentum**2 if nesterov else momentum
    f = np.block([[eye - lr * ahead * g, -lr * back * eye + zero], [g, beta]])
    u = np.concatenate([lr * ahead * found.shaken, -found.shaken], 1)
    if momentum == 0:
        f, u = f[:, :d, :d], u[:, :d]
    w, n = found.weights, f.shape[-1]
    flat = f.reshape(len(f), -1)
    t = ((w[:, None] * flat).T @ flat).reshape(n, n, n, n)  # Σ w f_ij f_kl
    return t.transpose(0, 2, 1, 3).reshape(n * n, n * n), np.einsum("k,ki,kj->ij", w, u, u)


def radius(found, **how):
    """The spectral radius as a function of lr; the map is a parabola in it, from three values."""
    back, still, ahead = (second_moments(lr, found, **how)[0] for lr in (-1.0, 0.0, 1.0))
    slope, bend = (ahead - back) / 2, (ahead + back) / 2 - still
    return lambda lr: max(abs(np.linalg.eigvals(still + lr * slope + lr**2 * bend)))
