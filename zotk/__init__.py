"""Zeroth-order optimisation in function space: estimators, kernels, hierarchy, evidence."""

from zotk.estimators.check_law import check_law
from zotk.estimators.directions import Law
from zotk.estimators.gradient import grad
from zotk.estimators.guided import Guided
from zotk.estimators.laws import (
    Coordinate,
    Gaussian,
    Laplace,
    Orthogonal,
    Rademacher,
    Sphere,
    StudentT,
)
from zotk.estimators.log import Log
from zotk.estimators.masked import Masked
from zotk.estimators.matrices import LowRank, Subspace
from zotk.estimators.record import Estimate, join, replay_
from zotk.estimators.two_point import backward, measure
from zotk.evidence.across import across
from zotk.evidence.checks import Check, CheckFailed, Underpowered
from zotk.evidence.counting import count_queries
from zotk.hzo.coloring import Coloring, coloring, compress, decompress
from zotk.hzo.cost import HZOCost, hzo_cost
from zotk.hzo.gradients import HZOEstimate, hzo_backward, hzo_gradients
from zotk.kernels.average import KernelEstimate
from zotk.kernels.linear import nzk, nzk_samples, zo_kernel
from zotk.kernels.tangent import ntk, zo_entk
from zotk.lessons.data import digits, images, linear_task, sphere
from zotk.lessons.figures import COLOURS, frame_player, heat_map, use_style
from zotk.lessons.mat import official_arrays
from zotk.lessons.models import cnn, mlp, tower
from zotk.lessons.prose import glue
from zotk.lessons.text import encoder, sentences
from zotk.networks.contract import Residual, functional
from zotk.theory.descent import Curve, gradient_descent
from zotk.theory.mean_square import MeanSquare, mean_square
from zotk.theory.probe import Measured, probe
from zotk.theory.settings import Reason, Settings, suggest
from zotk.theory.watch import Watch, Watched

__all__ = [
    "COLOURS",
    "Check",
    "CheckFailed",
    "Coloring",
    "Coordinate",
    "Curve",
    "Estimate",
    "Gaussian",
    "Guided",
    "HZOCost",
    "HZOEstimate",
    "KernelEstimate",
    "Laplace",
    "Law",
    "Log",
    "LowRank",
    "Masked",
    "MeanSquare",
    "Measured",
    "Orthogonal",
    "Rademacher",
    "Reason",
    "Residual",
    "Settings",
    "Sphere",
    "StudentT",
    "Subspace",
    "Underpowered",
    "Watch",
    "Watched",
    "across",
    "backward",
    "check_law",
    "cnn",
    "coloring",
    "compress",
    "count_queries",
    "decompress",
    "digits",
    "encoder",
    "frame_player",
    "functional",
    "glue",
    "grad",
    "gradient_descent",
    "heat_map",
    "hzo_backward",
    "hzo_cost",
    "hzo_gradients",
    "images",
    "join",
    "linear_task",
    "mean_square",
    "measure",
    "mlp",
    "ntk",
    "nzk",
    "nzk_samples",
    "official_arrays",
    "probe",
    "replay_",
    "sentences",
    "sphere",
    "suggest",
    "tower",
    "use_style",
    "zo_entk",
    "zo_kernel",
]
