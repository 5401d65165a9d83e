"""Promise 4: dropout is keyed by the clip; neither its neighbors nor the cut into micro-batches change a mask."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.model.dropout import ClipDropout


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**63), st.sampled_from([0.1, 0.5, 0.9]))
def test_any_cut_into_micro_batches_has_the_same_masks(n, size, key, rate) -> None:
    features = torch.randn(n, 3, 4, 5)
    dropout = ClipDropout(rate).train()
    whole = dropout(features, range(key, key + n))
    starts = range(0, n, size)
    parts = [dropout(features[k : k + size], range(key + k, key + min(k + size, n))) for k in starts]
    assert torch.equal(torch.cat(parts), whole)


def test_masks_lay_no_claim_on_how_features_lie_in_memory() -> None:
    features = torch.randn(2, 8, 4, 4)
    dropout, keys = ClipDropout(0.5).train(), [3, 4]
    other = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(dropout(other, keys), dropout(features, keys))


def test_the_share_is_set_to_0_the_rest_keeps_the_mean_and_clips_differ() -> None:
    dropped = ClipDropout(0.9).train()(torch.ones(2, 512, 14, 14), [0, 1])
    # 100,352 draws a clip: five standard deviations of a share of 0.1 are 0.0047.
    assert ((dropped != 0).float().mean((1, 2, 3)) - 0.1).abs().max() < 0.005
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / (1 - 0.9)).item()}
    assert not torch.equal(dropped[0], dropped[1])


def test_without_keys_torch_draws_and_in_eval_mode_nothing_is_dropped() -> None:
    features = torch.randn(2, 3, 4, 4)
    dropout = ClipDropout(0.5).train()
    torch.manual_seed(0)
    drawn = dropout(features)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.nn.functional.dropout(features, 0.5))
    assert torch.equal(dropout.eval()(features, [0, 1]), features)
