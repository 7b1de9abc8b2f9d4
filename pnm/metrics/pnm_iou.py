"""PNM IoU (Zhang et al., "PNM: Pixel Null Model for General Image Segmentation", Eq. 8), and mIoU beside it (Eq. 7)."""

from collections.abc import Sequence

from pnm.metrics.semantic_metrics import SemanticMetrics


class PNMIoU(SemanticMetrics):
    """Accumulates weighted intersections and unions over a data set; exact under :meth:`merge` in any split.

    Numerator and denominator of each class are summed over all images before they are divided. A pixel's weight is
    that of the *ground truth's* null model. Ignored pixels of the ground truth count nowhere; a prediction that is no
    class is wrong and belongs to no class's union but the truth's.

    Args:
        num_classes: K; labels are 0..K - 1.
        locality: side d of the null model's window in pixels, odd.
        transform: "log", "linear" or "inverse", see :func:`pnm.null_model.pixel_weights.pixel_weights`.
        ignore_label: ground-truth label that is left out; None if there is none.
        border: see :func:`pnm.null_model.null_model.pixel_null_model`.
        class_names: K names for the report; the class numbers by default.

    Raises:
        UserError: no class, a number of names other than K, or a locality, transform or border that doesn't exist.
    """

    def __init__(
        self,
        num_classes: int,
        locality: int = 35,
        transform: str = "log",
        ignore_label: int | None = 255,
        *,
        border: str = "valid",
        class_names: Sequence[str] | None = None,
    ):
        super().__init__(
            num_classes,
            class_names=class_names,
            ignore_label=ignore_label,
            locality=locality,
            transform=transform,
            border=border,
            metrics=("IoU", "PNM-IoU"),
        )

    def compute(self) -> dict[str, float]:
        """``{"PNM-IoU", "mIoU", "PNM-IoU-<class>"..., "IoU-<class>"...}`` in 0..1.

        The means run over the classes that the ground truth has; the others are nan, and so are the means of none.
        """
        values = super().compute()
        names = ["PNM-IoU", "mIoU"]
        names += [f"{metric}-{name}" for metric in ("PNM-IoU", "IoU") for name in self.class_names]
        return {name: values[name] for name in names}
