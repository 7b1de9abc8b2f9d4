"""The mask that colours speak for: a regression of the coarse mask on the image's colours in windows around each pixel,
as in the guided filter (He et al., "Guided image filtering", ECCV 2010, eq. 4 to 6, without its second averaging).

Where a mask's contour lies beside an edge of the image, the regression follows the edge, if the window is large enough
to see more of the mask than of its error. A network that gets it as input has to learn when to believe it, and needs
not find out how edges are followed.
"""

import torch
import torch.nn.functional as F

RADII = (2, 5, 12)  # in pixels of half the resolution
CHANNELS = 1 + 3 * len(RADII)  # of all evidence

# Added to the variances of normalized colours: noise of about 8 grey levels explains nothing.
NOISE = 0.02
LEAST_VARIANCE = 0.01  # of the mask, +1 and -1, in a window


def _window_means(x: torch.Tensor, radius: int) -> torch.Tensor:
    """(N, C, H, W): means over windows of 2 radius + 1 pixels to a side, of the part that lies in the map.

    Sums are depthwise convolutions with ones, which run several times as fast as pooling does.
    """
    channels = x.shape[1]
    ones = torch.ones(channels, 1, 2 * radius + 1, 1, device=x.device)
    columns = F.conv2d(x, ones, groups=channels, padding=(radius, 0))
    sums = F.conv2d(columns, ones.transpose(2, 3), groups=channels, padding=(0, radius))
    return sums[:, :-1] / sums[:, -1:]


def local_regression(colors: torch.Tensor, mask: torch.Tensor, radius: int) -> torch.Tensor:
    """What colours say of a mask around each pixel.

    Args:
        colors: (N, 3, H, W) float32, normalized: each of mean about 0 and variance about 1.
        mask: (N, 1, H, W) float32 from -1 to 1.
        radius: of the windows in pixels.

    Returns:
        (N, 3, H, W): the regression minus the mask; the share of the mask's variance that it explains, from 0 to 1;
        the mask's mean.
    """
    r, g, b = colors.unbind(1)
    m = mask[:, 0]
    products = [r, g, b, m, r * m, g * m, b * m, r * r, r * g, r * b, g * g, g * b, b * b, m * m, torch.ones_like(m)]
    means = _window_means(torch.stack(products, 1).contiguous(memory_format=torch.channels_last), radius)
    color_mean, mask_mean = means[:, :3], means[:, 3:4]
    shared = means[:, 4:7] - color_mean * mask_mean
    (mr, mg, mb), (rr, rg, rb, gg, gb, bb) = color_mean.unbind(1), means[:, 7:13].unbind(1)
    rr, gg, bb = rr - mr * mr + NOISE, gg - mg * mg + NOISE, bb - mb * mb + NOISE
    rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
    # The inverse of the symmetric covariance matrix, by its cofactors.
    cofactors = (gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg)
    determinant = rr * cofactors[0] + rg * cofactors[1] + rb * cofactors[2]
    rows = (
        cofactors,
        (cofactors[1], rr * bb - rb * rb, rg * rb - rr * gb),
        (cofactors[2], rg * rb - rr * gb, rr * gg - rg * rg),
    )
    slopes = torch.stack([sum(c * shared[:, k] for k, c in enumerate(row)) / determinant for row in rows], 1)
    regression = (slopes * (colors - color_mean)).sum(1, keepdim=True) + mask_mean
    variance = means[:, 13:14] - mask_mean * mask_mean
    explained = (slopes * shared).sum(1, keepdim=True) / (variance + LEAST_VARIANCE)
    return torch.cat([regression - mask, explained, mask_mean], 1)


def color_evidence(x: torch.Tensor) -> torch.Tensor:
    """The coarse mask and its regressions on the colours, at half the resolution.

    Args:
        x: (N, 4, H, W), normalized RGB and the coarse mask as +1 and -1; H and W even.

    Returns:
        (N, CHANNELS, H / 2, W / 2) float32.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        half = F.avg_pool2d(x.float(), 2)
        colors, mask = half[:, :3], half[:, 3:]
        return torch.cat([mask, *(local_regression(colors, mask, radius) for radius in RADII)], 1)
