"""An object that refinement leaves nothing of keeps its mask, and its confidence is 0."""

import numpy as np

from pnm.masks.crops import EMPTY, MaskCrop, paste
from pnm.predictions import Objects, Partition
from pnm.predictions.lost_objects import with_lost_objects
from pnm.predictions.refinement import Chain
from pnm.predictions.refinement_details import Detailed

from .steps import Gives

ONE = MaskCrop(np.ones((1, 1), np.bool_), 3, 4)
LARGE = MaskCrop(np.ones((2, 3), np.bool_), 5, 5)
OBJECTS = Objects((9, 12), (ONE, LARGE, EMPTY), (1.0,) * 3, (0,) * 3)
LABELS = Partition(np.array([[1, 1, 2, 3, 0]]), (1, 2, 3, 7), (1, 2, 3, 7))


def test_objects_of_crops_and_of_arrays():
    told = with_lost_objects(OBJECTS, Detailed([EMPTY, LARGE, EMPTY], {0: 0.9, 1: 0.8}))
    assert told.refined == [ONE, LARGE, EMPTY] and told.confidences == {0: 0.0, 1: 0.8}
    arrays = [np.zeros((9, 12), np.bool_), paste(LARGE, 9, 12), np.zeros((9, 12), np.bool_)]
    told = with_lost_objects(OBJECTS, Detailed(arrays, {}))
    assert told.refined[0] == ONE and told.refined[1] is arrays[1] and told.confidences == {0: 0.0}


def test_the_modules_example():
    told = with_lost_objects(LABELS, Detailed(np.array([[1, 1, 1, 3, 0]]), {1: 0.9, 2: 0.7}))
    assert told.refined.tolist() == LABELS.labels.tolist() and told.confidences == {1: 0.9, 2: 0.0}


def test_what_gives_back_its_last_pixel_gets_its_own_back_too():
    told = with_lost_objects(LABELS, Detailed(np.array([[3, 1, 1, 1, 1]]), {}))
    assert told.refined.tolist() == [[3, 1, 2, 1, 1]] and told.confidences == {2: 0.0}
    told = with_lost_objects(LABELS, Detailed(np.array([[1, 1, 3, 1, 1]]), {}))
    assert told.refined.tolist() == [[1, 1, 2, 3, 1]] and told.confidences == {2: 0.0, 3: 0.0}


def test_what_changes_nothing_stays_the_same_thing():
    for coarse, refined in ((OBJECTS, list(OBJECTS.masks)), (LABELS, LABELS.labels)):
        detailed = Detailed(refined, {})
        assert with_lost_objects(coarse, detailed) is detailed


def test_a_refiner_of_the_list_of_segments_may_drop_some():
    anew = Partition(np.array([[1, 1, 1, 1, 1]]), (1,), (1,))
    assert with_lost_objects(LABELS, Detailed(anew, {})).refined is anew


def test_in_a_chain_after_each_step():
    seen = []
    chain = Chain([Gives(lambda given: [EMPTY] * 3), Gives(lambda given: seen.append(given) or list(given.masks))])
    told = chain.refine_detailed(chain.read(None), OBJECTS)
    assert seen[0].masks == (ONE, LARGE, EMPTY) == tuple(told.refined) and told.confidences == {0: 0.0, 1: 0.0}
