"""What a refiner's network computes in on CPUs, of two keys that both say it."""

from detectron2.config import CfgNode

from pnm.errors import UserError


def cpu_precision(cfg: CfgNode, system: str) -> str:
    """``PRECISION_TEST`` of a system's node; with ``AMP_TEST``, which asks for half of the bits everywhere, "bfloat16".

    An empty ``PRECISION_TEST`` is "float32" without ``AMP_TEST``.

    Raises:
        UserError: the two contradict each other, on the device that the config names.
    """
    node, key = cfg.MODEL[system], f"MODEL.{system}"
    if not node.AMP_TEST:
        return node.PRECISION_TEST or "float32"
    if node.PRECISION_TEST == "float32" and cfg.MODEL.DEVICE.startswith("cpu"):
        raise UserError(
            f"{key}.AMP_TEST is True, which is half of the bits, and {key}.PRECISION_TEST is float32: leave one of the "
            "two away"
        )
    return "bfloat16" if node.PRECISION_TEST in ("", "auto", "float32") else node.PRECISION_TEST
