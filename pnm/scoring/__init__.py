"""Result files of any model against their ground truth: metrics over formats, comparisons, reports."""
