"""Printing results and comparing them with expected ones."""

import logging
import math
import sys
from collections.abc import Mapping

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]

logger = logging.getLogger(__name__)


def print_csv_format(results: Mapping) -> None:
    """Logs each task's main metrics (names without "-") as comma-separated lines for a spreadsheet."""
    for task, scores in results.items():
        if not isinstance(scores, Mapping):
            logger.info("copypaste: %s=%s", task, scores)
            continue
        main = {metric: score for metric, score in scores.items() if "-" not in metric}
        for line in (f"Task: {task}", ",".join(main), ",".join(f"{score:.4f}" for score in main.values())):
            logger.info("copypaste: %s", line)


def verify_results(cfg, results: Mapping) -> bool:
    """Compares with ``cfg.TEST.EXPECTED_RESULTS``, a list of [task, metric, value, tolerance].

    Returns True, also where nothing is expected; ends the program with status 1 where a score is missing, not
    finite, or too far off.
    """
    failures = []
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        actual = results.get(task, {}).get(metric)
        if actual is None or not math.isfinite(actual) or abs(actual - expected) > tolerance:
            failures.append(f"{task}/{metric} is {actual}, expected {expected} ± {tolerance}")
    if failures:
        logger.error("Results are not as TEST.EXPECTED_RESULTS says: %s", "; ".join(failures))
        sys.exit(1)
    if cfg.TEST.EXPECTED_RESULTS:
        logger.info("Results are as TEST.EXPECTED_RESULTS says")
    return True


def flatten_results_dict(results: Mapping) -> dict:
    """``{"task/metric": score}`` of nested dicts of any depth."""
    flat = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{inner}": score for inner, score in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
