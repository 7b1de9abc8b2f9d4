"""Attention between pixels, and between pixels and regions, against loops over them."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pnm.projects.semantic_networks.attention import (
    CrissCrossBlock,
    NonLocalBlock,
    criss_cross_attention,
    non_local_attention,
)
from pnm.projects.semantic_networks.object_context import (
    ObjectContext,
    attend_to_regions,
    region_representations,
)

SIZES = [(3, 5), (4, 4), (1, 6), (5, 1), (1, 1)]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(products):
    exponentials = [math.exp(p - max(products)) for p in products]
    return [e / sum(exponentials) for e in exponentials]


def brute_force(query, key, value, sees):
    """Attention of each pixel over the pixels that it sees, one at a time."""
    number, _, height, width = query.shape
    out = torch.zeros_like(value)
    for n in range(number):
        for y in range(height):
            for x in range(width):
                others = [(v, u) for v in range(height) for u in range(width) if sees(y, x, v, u)]
                products = [float(query[n, :, y, x] @ key[n, :, v, u]) for v, u in others]
                for share, (v, u) in zip(softmax(products), others, strict=True):
                    out[n, :, y, x] += share * value[n, :, v, u]
    return out


@pytest.mark.parametrize("size", SIZES)
def test_non_local_attention_sees_every_pixel_once(size):
    query, key, value = (drawn(2, c, *size, seed=s) for s, c in enumerate((3, 3, 4)))
    expected = brute_force(query, key, value, lambda *_: True)
    torch.testing.assert_close(non_local_attention(query, key, value), expected)


def test_non_local_attention_never_holds_the_matrix_of_all_pairs():
    """It goes through torch's fused kernel alone, which refuses what it cannot take."""
    tensors = [drawn(2, 8, 12, 10, seed=s).float().requires_grad_() for s in range(3)]
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        non_local_attention(*tensors).sum().backward()
    assert all(x.grad.shape == x.shape for x in tensors)


@pytest.mark.parametrize("size", SIZES)
def test_criss_cross_attention_sees_row_and_column_and_the_pixel_itself_once(size):
    query, key, value = (drawn(2, c, *size, seed=s) for s, c in enumerate((3, 3, 4)))
    expected = brute_force(query, key, value, lambda y, x, v, u: y == v or x == u)
    torch.testing.assert_close(criss_cross_attention(query, key, value), expected)


def _influence(block, size):
    """Whether the output at the middle depends on each pixel of the input."""
    x = drawn(1, 8, *size).float().requires_grad_()
    middle = [side // 2 for side in size]
    block(x)[0, :, middle[0], middle[1]].sum().backward()
    return x.grad.abs().sum(dim=(0, 1)) > 0


def test_two_passes_of_criss_cross_attention_see_the_whole_image():
    torch.manual_seed(0)
    once, twice = CrissCrossBlock(8, passes=1), CrissCrossBlock(8)
    for block in (once, twice):
        torch.nn.init.constant_(block.gain, 0.5)
    cross = torch.zeros(5, 7, dtype=torch.bool)
    cross[2], cross[:, 3] = True, True
    assert torch.equal(_influence(once, (5, 7)), cross)
    assert _influence(twice, (5, 7)).all()


@pytest.mark.parametrize("block", [NonLocalBlock, CrissCrossBlock])
def test_blocks_start_as_the_identity_and_learn_to_attend(block):
    torch.manual_seed(0)
    module, x = block(8), drawn(2, 8, 6, 5).float()
    torch.testing.assert_close(module(x), x)
    (module(x) * drawn(2, 8, 6, 5, seed=1)).sum().backward()
    opening = module.norm.weight if block is NonLocalBlock else module.gain
    assert opening.grad.abs().sum() > 0
    with torch.no_grad():
        opening.fill_(1.0)
    module.zero_grad()
    (module(x) * drawn(2, 8, 6, 5, seed=1)).sum().backward()
    of_weights = [p.grad.abs().sum() for name, p in module.named_parameters() if name.endswith("weight")]
    assert all(grad > 0 for grad in of_weights)


def test_region_representations_are_means_over_pixels():
    pixels, logits = drawn(2, 4, 3, 5), drawn(2, 3, 3, 5, seed=1)
    expected = torch.zeros(2, 4, 3, dtype=torch.float64)
    for n in range(2):
        for k in range(3):
            shares = softmax(logits[n, k].flatten().tolist())
            for share, pixel in zip(shares, pixels[n].flatten(1).T, strict=True):
                expected[n, :, k] += share * pixel
    torch.testing.assert_close(region_representations(pixels, logits), expected)


def test_a_region_that_is_certain_is_represented_by_its_pixels_alone():
    pixels, logits = drawn(1, 4, 4, 4), torch.full((1, 2, 4, 4), -50.0, dtype=torch.float64)
    logits[0, 0, :2], logits[0, 1, 2:] = 50.0, 50.0
    found = region_representations(pixels, logits)
    torch.testing.assert_close(found[0, :, 0], pixels[0, :, :2].mean(dim=(1, 2)))
    torch.testing.assert_close(found[0, :, 1], pixels[0, :, 2:].mean(dim=(1, 2)))


def test_pixels_attend_to_regions():
    query, key, value = drawn(2, 9, 3, 5), drawn(2, 9, 4, seed=1), drawn(2, 6, 4, seed=2)
    expected = torch.zeros(2, 6, 3, 5, dtype=torch.float64)
    for n in range(2):
        for y in range(3):
            for x in range(5):
                products = [float(query[n, :, y, x] @ key[n, :, k]) / 3 for k in range(4)]  # the root of 9 channels
                for share, k in zip(softmax(products), range(4), strict=True):
                    expected[n, :, y, x] += share * value[n, :, k]
    torch.testing.assert_close(attend_to_regions(query, key, value), expected)


def test_object_context_follows_the_regions():
    """Moving the pixels of one image of a batch together with its regions moves the result, and no other image's."""
    torch.manual_seed(0)
    module = ObjectContext(8).eval()
    pixels, logits = drawn(2, 8, 4, 6).float(), drawn(2, 3, 4, 6, seed=1).float()
    with torch.no_grad():
        plain = module(pixels, logits)
        mirrored = module(*(torch.stack([x[0], x[1].flip(-1)]) for x in (pixels, logits)))
        other_regions = module(pixels, torch.stack([logits[0], logits[1].flip(-1)]))
    torch.testing.assert_close(mirrored[0], plain[0])
    torch.testing.assert_close(mirrored[1], plain[1].flip(-1))
    torch.testing.assert_close(other_regions[0], plain[0])
    assert not torch.allclose(other_regions[1], plain[1])
