"""Interrupts that come right after a tensor was added to."""

import pytest
import torch


@pytest.fixture
def interrupt_add(monkeypatch):
    """``interrupt_add(tensors, moment)``: the moment-th `add_` to their memory is the last.

    Python handles Ctrl-C after the C call returns: the tensor has been added to, and nobody has
    made a note of it. Returns a list with an entry for every such call, this one and later ones.
    """

    def arm(tensors, moment):
        add_, calls = torch.Tensor.add_, []
        places = {t.untyped_storage().data_ptr() for t in tensors}

        def interrupted(self, *args, **kwargs):
            out = add_(self, *args, **kwargs)
            if self.untyped_storage().data_ptr() in places:
                calls.append(self.numel())
                if len(calls) == moment:
                    raise KeyboardInterrupt
            return out

        monkeypatch.setattr(torch.Tensor, "add_", interrupted)
        return calls

    return arm
