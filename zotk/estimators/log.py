"""A training run as a list of seeds and scalars: a checkpoint of a few bytes a step."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from zotk.arguments import integer, real, seeded
from zotk.estimators.directions import Law
from zotk.estimators.parameters import trained
from zotk.estimators.record import Estimate, replay_

__all__ = ["Log"]


class Log:
    """Steps θ ← θ + scale·ĝ in a file, one line each, from which θ can be made again.

    A step is written when `append` returns, and a last line that was cut off is left out on
    reading. Restoring starts from the parameters of the beginning and costs one draw of every
    direction: storage is free, restoring is not, so keep a snapshot now and then and the steps
    since (`start`).

    ``path``: a file, made if there is none; a log that is there goes on. ``directions``: the law
    of every step, needed to read steps whose law has tensors (`Masked`; not those of a `Guided`
    that changes from step to step).
    """

    def __init__(self, path: str | Path, *, directions: Law | None = None) -> None:
        self.path, self._directions = Path(path), directions
        self.path.touch()
        whole = self.path.read_bytes()
        if not whole.endswith(b"\n") and whole:  # the end of a line never arrived
            self.path.write_bytes(whole[: whole.rfind(b"\n") + 1])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[tuple[Estimate, float]]:
        """Every step: an estimate and its scale. Raises ValueError for a line that is neither."""
        with self.path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    entry = json.loads(line)
                    made = Estimate.from_plain(entry["estimate"], directions=self._directions)
                    step = made, float(entry["scale"])
                except (KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{self.path}:{number} is no step: {error}") from error
                yield step

    def append(self, estimate: Estimate, scale: float) -> None:
        """Write one step, whole or not at all: call it before the step is taken."""
        entry = {"scale": real("scale", scale), "estimate": estimate.plain()}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")

    def restore_(
        self,
        params: nn.Module | Iterable[Tensor],
        *,
        start: int = 0,
        stop: int | None = None,
        rounding: str = "nearest",
        generator: torch.Generator | None = None,
    ) -> int:
        """Replay the steps start … stop - 1 on parameters as they were before step `start`.

        ``rounding`` and ``generator``: as :func:`replay_` was given them, the generator in the
        state that it had before step `start`. Returns how many steps were taken. Raises as
        :func:`replay_`.
        """
        integer("start", start, 0)
        if stop is not None:
            integer("stop", stop, start)
        theta = list(trained(params).values())
        generator = seeded(generator, theta[0].device)  # one for all steps
        taken = 0
        for estimate, scale in islice(self, start, stop):
            replay_(theta, estimate, scale, rounding=rounding, generator=generator)
            taken += 1
        return taken
