"""Grouping as its rules are written down, with loops over pixels and centres: what the fast one is held against."""

import numpy as np


def peaks(heat, threshold, kernel, most):
    """[(y, x)], highest first: pixels above the threshold that nothing in their window exceeds, touching ones once."""
    height, width = heat.shape
    reach, found = kernel // 2, set()
    for y in range(height):
        for x in range(width):
            window = heat[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if heat[y, x] > threshold and not (window > heat[y, x]).any():
                found.add((y, x))
    centers = []
    for start in sorted(found):
        if start not in found:
            continue
        centers.append(start)
        stack = [start]
        while stack:  # takes out the plateau
            y, x = stack.pop()
            if (y, x) in found:
                found.remove((y, x))
                stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return sorted(centers, key=lambda c: (-heat[c], c))[:most]


def own_box(boxes, y, x):
    height, width = boxes.shape[1:]
    t, b, left, right = (0.0 if np.isnan(v) else float(v) for v in boxes[:, y, x])
    t, b = (min(max(v, 0.0), height) for v in (t, b))
    left, right = (min(max(v, 0.0), width) for v in (left, right))
    return np.array([y - t, x - left, y + b + 1, x + right + 1])


def iou(a, b):
    high, wide = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if high <= 0 or wide <= 0:
        return 0.0
    both = high * wide
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def target(offsets, y, x):
    place = []
    for value, at, size in zip(offsets[:, y, x], (y, x), offsets.shape[1:]):
        place.append(float(at) if np.isnan(value) else at + min(max(float(value), -size), size))
    return place


def group(fields, foreground, s, most_voters=1000):
    """Labels (H, W) of :func:`pnm.panoptic_grouping.grouping.group_pixels`, and its centres."""
    heat, offsets, boxes = fields
    centers = peaks(heat, s.threshold, s.nms_kernel, s.most_centers)
    labels = np.zeros(foreground.shape, np.int64)
    pixels = list(zip(*np.nonzero(foreground)))

    def distances(pixel):
        ty, tx = target(offsets, *pixel)
        return [(ty - cy) ** 2 + (tx - cx) ** 2 for cy, cx in centers]

    if not centers:
        return labels, centers
    nearest = {pixel: int(np.argmin(distances(pixel))) for pixel in pixels}
    if not s.use_boxes:
        for pixel in pixels:
            labels[pixel] = nearest[pixel] + 1
        return labels, centers
    if s.center_box == "votes":
        voters = [[pixel for pixel in pixels if nearest[pixel] == k] for k in range(len(centers))]
        asked = [some[:: -(-len(some) // most_voters) or 1] for some in voters]
        center_boxes = [np.median([own_box(boxes, *p) for p in some], 0) if some else None for some in asked]
    else:
        center_boxes = [own_box(boxes, *center) for center in centers]
    kept = []
    for k, box in enumerate(center_boxes):
        if box is not None and all(iou(box, center_boxes[other]) <= s.duplicate_iou for other in kept):
            kept.append(k)
    centers, center_boxes = [centers[k] for k in kept], [center_boxes[k] for k in kept]
    for pixel in pixels if centers else ():
        away, own = distances(pixel), own_box(boxes, *pixel)
        overlaps = [iou(own, box) for box in center_boxes]
        fitting = [k for k in range(len(centers)) if overlaps[k] > s.match_iou]
        if fitting:
            labels[pixel] = 1 + min(fitting, key=lambda k: (away[k], -overlaps[k], k))
        elif s.unmatched == "nearest":
            k = int(np.argmin(away))
            top, left, bottom, right = center_boxes[k]
            grown = s.box_margin * max(bottom - top, right - left)
            y, x = pixel[0] + 0.5, pixel[1] + 0.5
            if top - grown <= y <= bottom + grown and left - grown <= x <= right + grown:
                labels[pixel] = k + 1
    return labels, centers
