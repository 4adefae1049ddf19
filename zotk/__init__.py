"""Zeroth-order optimisation in function space: estimators, kernels, hierarchy, evidence."""

from zotk.across import across
from zotk.checks import Check, CheckFailed, Underpowered
from zotk.coloring import Coloring, coloring, compress, decompress
from zotk.counting import count_queries
from zotk.data import digits, images, linear_task, sphere
from zotk.directions import (
    Coordinate,
    Gaussian,
    Laplace,
    Law,
    Orthogonal,
    Rademacher,
    Sphere,
    StudentT,
)
from zotk.dynamics import Curve, MeanSquare, gradient_descent, mean_square
from zotk.estimators import Estimate, backward, grad, replay_
from zotk.figures import COLOURS, frame_player, use_style
from zotk.hzo import HZOCost, HZOEstimate, hzo_backward, hzo_cost, hzo_gradients
from zotk.kernels import KernelEstimate, ntk, nzk, nzk_samples, zo_entk, zo_kernel
from zotk.mat import official_arrays
from zotk.models import Residual, cnn, functional, mlp, tower

__all__ = [
    "COLOURS",
    "Check",
    "CheckFailed",
    "Coloring",
    "Coordinate",
    "Curve",
    "Estimate",
    "Gaussian",
    "HZOCost",
    "HZOEstimate",
    "KernelEstimate",
    "Laplace",
    "Law",
    "MeanSquare",
    "Orthogonal",
    "Rademacher",
    "Residual",
    "Sphere",
    "StudentT",
    "Underpowered",
    "across",
    "backward",
    "cnn",
    "coloring",
    "compress",
    "count_queries",
    "decompress",
    "digits",
    "frame_player",
    "functional",
    "grad",
    "gradient_descent",
    "hzo_backward",
    "hzo_cost",
    "hzo_gradients",
    "images",
    "linear_task",
    "mean_square",
    "mlp",
    "ntk",
    "nzk",
    "nzk_samples",
    "official_arrays",
    "replay_",
    "sphere",
    "tower",
    "use_style",
    "zo_entk",
    "zo_kernel",
]
