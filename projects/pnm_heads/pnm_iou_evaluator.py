"""PNM IoU alone, for people who put their evaluators together themselves."""

from pnm.projects.launcher.evaluation.metric_evaluators import SemanticMetricsEvaluator


class PNMIoUEvaluator(SemanticMetricsEvaluator):
    """Results: ``{"pnm_iou": {"PNM_IoU", "mIoU", "PNM_IoU-<class>", "IoU-<class>", ...}}`` in percent (Eq. 8).

    Composes with Detectron2's evaluators of semantic data sets. Pixels are pooled over the data set and over processes;
    classes without ground truth are nan and left out of the means.

    Args:
        dataset_name: registered, with "stuff_classes" and "ignore_label" as metadata.
        locality, transform, border: of the null model, see :func:`pnm.null_model.null_model.pixel_null_model`.
    """

    task = "pnm_iou"

    def __init__(self, dataset_name: str, locality: int = 35, transform: str = "log", border: str = "valid"):
        options = {"locality": locality, "transform": transform, "border": border}
        super().__init__(dataset_name, metrics=("IoU", "PNM-IoU"), **options)
