"""Whatever is in a JSON file, reading it ends in an object or in one line that says what is wrong."""

import json
import os
import random

import pytest

from pnm.errors import UserError
from pnm.formats.coco_instances import read_coco_categories, read_coco_ground_truth, read_coco_results
from pnm.formats.coco_panoptic import read_annotations
from tests.json_mutations import instances, mutated, panoptic


@pytest.mark.parametrize("kind", ["truth", "results", "panoptic"])
def test_mutations_end_in_one_line(tmp_path, kind):
    """``PNM_MUTATIONS=2000`` for more."""
    truth, results = instances()
    content = {"truth": truth, "results": results, "panoptic": panoptic()}[kind]
    path, chance, refused = tmp_path / "mutated.json", random.Random(kind), 0
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    sound = read_coco_ground_truth(tmp_path / "truth.json")
    for _ in range(int(os.environ.get("PNM_MUTATIONS", "300"))):
        path.write_bytes(mutated(content, chance))
        try:
            if kind == "truth":
                read_coco_ground_truth(path)
                read_coco_categories(path)
            elif kind == "results":
                read_coco_results(path, sound)
            else:
                read_annotations(path)
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
    assert refused > 50
