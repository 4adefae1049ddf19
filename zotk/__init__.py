"""Zeroth-order optimisation in function space: estimators, kernels, hierarchy, evidence."""

from zotk.checks import Check, CheckFailed, Underpowered
from zotk.counting import count_queries
from zotk.data import digits, sphere
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
from zotk.estimators import Estimate, backward, grad, replay_
from zotk.figures import COLOURS, frame_player, use_style
from zotk.models import functional, mlp

__all__ = [
    "COLOURS",
    "Check",
    "CheckFailed",
    "Coordinate",
    "Estimate",
    "Gaussian",
    "Laplace",
    "Law",
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
    "mlp",
    "replay_",
    "sphere",
    "use_style",
]
