"""Zeroth-order optimisation in function space: estimators, kernels, hierarchy, evidence."""

from zotk.checks import Check, CheckFailed, Underpowered
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
from zotk.kernels import KernelEstimate, ntk, nzk, nzk_samples, zo_entk, zo_kernel
from zotk.mat import official_arrays
from zotk.models import functional, mlp

__all__ = [
    "COLOURS",
    "Check",
    "CheckFailed",
    "Coordinate",
    "Curve",
    "Estimate",
    "Gaussian",
    "KernelEstimate",
    "Laplace",
    "Law",
    "MeanSquare",
    "Orthogonal",
    "Rademacher",
    "Sphere",
    "StudentT",
    "Underpowered",
    "backward",
    "count_queries",
    "digits",
    "frame_player",
    "functional",
    "grad",
    "gradient_descent",
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
    "use_style",
    "zo_entk",
    "zo_kernel",
]
