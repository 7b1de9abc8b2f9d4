"""Every batch has its share of each data set, whatever their sizes, the number of processes and where a run goes on."""

import itertools
from collections import Counter

import pytest
from detectron2.utils import comm

from pnm.errors import UserError
from pnm.projects.launcher.config import load_config
from pnm.projects.launcher.data.shared_batches import SharedBatchSampler, check_shares
from pnm.projects.launcher.data.train_loader import build_train_loader, start_at

SIZES = (5, 11, 2)
ENTRIES = [[{"file_name": f"{d}-{k}", "set": d, "number": k} for k in range(size)] for d, size in enumerate(SIZES)]


def config(*overrides, batch=8, shares="(1,2,1)"):
    names = "('a','b','c')"
    given = ["DATASETS.TRAIN", names, "SOLVER.IMS_PER_BATCH", str(batch), "DATALOADER.DATASET_SHARES", shares]
    return load_config("", [*given, "DATALOADER.ASPECT_RATIO_GROUPING", "False", "SEED", "3", *overrides])


def batches(loader, count):
    return list(itertools.islice(iter(loader), count))


def test_each_batch_has_its_shares_and_each_image_comes_in_turn():
    loaded = batches(build_train_loader(config("DATALOADER.NUM_WORKERS", "0"), dict, ENTRIES), 55)
    for batch in loaded:
        assert [sample["set"] for sample in batch] == [0, 0, 1, 1, 1, 1, 2, 2]
    for number, size in enumerate(SIZES):
        seen = [s["number"] for batch in loaded for s in batch if s["set"] == number]
        rounds = [seen[first : first + size] for first in range(0, len(seen) - size + 1, size)]
        assert all(sorted(one) == list(range(size)) for one in rounds) and len(rounds) > 9
        assert size < 3 or rounds[0] != rounds[1]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_a_batch_and_every_share_of_it(monkeypatch, processes):
    whole = list(itertools.islice(SharedBatchSampler(SIZES, (1, 2, 1), 16, seed=3), 160))
    parts = []
    for rank in range(processes):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: processes)
        parts.append(list(itertools.islice(SharedBatchSampler(SIZES, (1, 2, 1), 16, seed=3), 160 // processes)))
    assert [index for turn in zip(*parts) for index in turn] == whole
    for part in parts:
        for first in range(0, len(part), 16 // processes):
            sets = Counter(0 if k < 5 else 1 if k < 16 else 2 for k in part[first : first + 16 // processes])
            assert sets == {0: 4 // processes, 1: 8 // processes, 2: 4 // processes}


def test_a_run_that_goes_on_sees_what_it_would_have():
    cfg = config("DATALOADER.NUM_WORKERS", "0")
    whole = batches(build_train_loader(cfg, dict, ENTRIES), 12)
    loader = build_train_loader(cfg, dict, ENTRIES)
    start_at(loader, 7)
    assert batches(loader, 5) == whole[7:]


def test_an_image_without_a_sample_is_replaced_by_one_of_its_data_set():
    def only_the_last(entry):
        return entry if entry["number"] == SIZES[entry["set"]] - 1 else None

    for batch in batches(build_train_loader(config("DATALOADER.NUM_WORKERS", "0"), only_the_last, ENTRIES), 4):
        assert [(s["set"], s["number"]) for s in batch] == [(0, 4)] * 2 + [(1, 10)] * 4 + [(2, 1)] * 2


@pytest.mark.parametrize(
    ("overrides", "options", "message"),
    [
        ([], {"shares": "(1,1)"}, r"DATASET_SHARES is \(1, 1\), expected a positive number for each of .*: a, b, c"),
        ([], {"shares": "(1,1,0)"}, "expected a positive number for each"),
        ([], {"batch": 6}, "IMS_PER_BATCH is 6, expected a multiple of 4, the sum of DATALOADER.DATASET_SHARES"),
        (["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"], {}, "leave DATALOADER.SAMPLER_TRAIN away"),
        (["DATALOADER.ASPECT_RATIO_GROUPING", "True"], {}, "set DATALOADER.ASPECT_RATIO_GROUPING False"),
    ],
)
def test_shares_that_do_not_fit(overrides, options, message):
    with pytest.raises(UserError, match=message):
        check_shares(config(*overrides, **options))


def test_an_empty_data_set_is_told():
    with pytest.raises(UserError, match="have no image to train on"):
        build_train_loader(config(), dict, [ENTRIES[0], [], ENTRIES[2]])
