"""The two frameworks of a proof share the cores."""

import pytest
import torch

from diglot.parity.torch_modes import half_the_threads


@pytest.mark.parametrize(("before", "within"), [(4, 2), (3, 1), (1, 1)])
def test_half_of_the_threads_for_a_while(before, within):
    kept = torch.get_num_threads()
    torch.set_num_threads(before)
    try:
        with pytest.raises(ZeroDivisionError), half_the_threads():
            assert torch.get_num_threads() == within
            raise ZeroDivisionError
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(kept)
