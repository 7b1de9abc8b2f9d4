"""Assignment of predictions (anchors, proposals) to ground truth."""

from collections.abc import Sequence

import torch


class Matcher:
    """Gives each prediction its best ground truth, and a label by how good that match is."""

    def __init__(self, thresholds: Sequence[float], labels: Sequence[int], allow_low_quality_matches: bool = False):
        """
        Args:
            thresholds: ascending, above 0; they part qualities into len(thresholds) + 1 intervals,
                each with its lower end.
            labels: of these intervals: 1 foreground, 0 background, -1 ignored.
            allow_low_quality_matches: label 1 also the best prediction(s) of every ground truth.

        Raises:
            ValueError: for thresholds or labels of another kind.
        """
        thresholds = list(thresholds)
        if not thresholds or thresholds[0] <= 0 or thresholds != sorted(thresholds):
            raise ValueError(f"matching thresholds must be positive and ascending, got {thresholds}")
        if len(labels) != len(thresholds) + 1 or not set(labels) <= {-1, 0, 1}:
            raise ValueError(f"{len(thresholds)} thresholds need one label more, each -1, 0 or 1; got {list(labels)}")
        self.thresholds = [-float("inf"), *thresholds, float("inf")]
        self.labels = list(labels)
        self.allow_low_quality_matches = allow_low_quality_matches

    def __call__(self, match_quality_matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            match_quality_matrix: (M, N) qualities, not negative, of M ground truths and N predictions.

        Returns:
            (N,) int64 indices of the best ground truth, and (N,) int8 labels. Without ground truth all indices
            are 0 and all labels that of the lowest interval.
        """
        quality = match_quality_matrix
        if quality.numel() == 0:
            count = quality.shape[1]
            matches = torch.zeros(count, dtype=torch.int64, device=quality.device)
            return matches, torch.full_like(matches, self.labels[0], dtype=torch.int8)
        best, matches = quality.max(dim=0)
        inner = torch.tensor(self.thresholds[1:-1], dtype=quality.dtype, device=quality.device)
        by_interval = torch.tensor(self.labels, dtype=torch.int8, device=quality.device)
        labels = by_interval[torch.bucketize(best, inner, right=True)]
        if self.allow_low_quality_matches:
            best_of_truth = quality.amax(dim=1, keepdim=True)
            labels[(quality == best_of_truth).any(dim=0)] = 1
        return matches, labels
