"""Random panoptic maps, truth and prediction."""

import numpy as np

from pnm.metrics.panoptic_quality import PanopticQuality

ISTHING = {1: True, 2: True, 7: False, 9: False}


def random_map(rng, height, width, crowds):
    ids = np.zeros((height, width), dtype=np.int64)
    segments = []
    for number in rng.choice(2**24 - 1, size=rng.integers(1, 9), replace=False) + 1:
        y, x = rng.integers(0, height), rng.integers(0, width)
        ids[y : y + rng.integers(1, height + 1), x : x + rng.integers(1, width + 1)] = number
        crowd = int(crowds and rng.random() < 0.3)
        segments.append({"id": int(number), "category_id": int(rng.choice(list(ISTHING))), "iscrowd": crowd})
    return ids, [s for s in segments if (ids == s["id"]).any()]


def random_images(seed, crowds, n=6, one_crowd_per_category=False):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        height, width = rng.integers(1, 48, size=2)
        gt_ids, gt = random_map(rng, height, width, crowds)
        pred_ids, pred = random_map(rng, height, width, False)
        if rng.random() < 0.6:  # a prediction close to the truth, so that there are matches
            pred_ids, pred = np.roll(gt_ids, 1, axis=1), [{**s, "iscrowd": 0} for s in gt]
        if one_crowd_per_category:
            crowds_seen = [s["category_id"] for s in gt if s["iscrowd"]]
            gt = [{**s, "iscrowd": int(s["iscrowd"] and crowds_seen.count(s["category_id"]) == 1)} for s in gt]
        images.append((gt_ids, gt, pred_ids, pred))
    return images


def evaluate(images, **options):
    quality = PanopticQuality(ISTHING, **options)
    for image in images:
        quality.update(*image)
    return quality
