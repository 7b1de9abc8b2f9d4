"""Batches of drawn scenes, as a panoptic mapper gives them, and the config of a network that is small."""

import numpy as np
import torch
import torch.distributed as dist
from detectron2.structures import BitMasks, Instances

from pnm.projects.launcher.config import load_config

THINGS, STUFF = 2, 3
ALONE = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.FPN.NORM", "")  # no statistics over the batch


def small_config(*overrides):
    """Of the quick start, with as little as there can be of everything."""
    small = ["MODEL.FPN.OUT_CHANNELS", 64, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 64, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]
    small += ["MODEL.SE_PSNET.NUM_THINGS", THINGS, "MODEL.SE_PSNET.NUM_STUFF", STUFF]
    small += ["MODEL.SE_PSNET.BASES.WIDTH", 64, "MODEL.SE_PSNET.CONFIDENCE.WIDTH", 32]
    small += ["MODEL.SE_PSNET.CONFIDENCE.FC_DIM", 32, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", STUFF + 1]
    small += ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()"]
    return load_config("configs/quickstart/se_psnet.yaml", [str(one) for one in (*small, *overrides)])


def sample_of(labels, classes, image=None, crowd=None):
    """A training sample of (H, W) instance numbers from 1 on, 0 for stuff, which is 1 above and 2 below."""
    height, width = labels.shape
    numbers = [n for n in range(1, len(classes) + 1) if (labels == n).any()]
    masks = BitMasks(torch.stack([torch.from_numpy(labels == n) for n in numbers] or [torch.zeros(labels.shape)]))
    masks = masks if numbers else BitMasks(torch.zeros(0, height, width, dtype=torch.bool))
    truth = Instances((height, width))
    truth.gt_boxes, truth.gt_masks = masks.get_bounding_boxes(), masks
    truth.gt_classes = torch.tensor([classes[n - 1] for n in numbers], dtype=torch.int64)
    stuff = np.where(np.arange(height)[:, None] < height // 2, 1, 2) * np.ones_like(labels)
    stuff = np.where(labels > 0, 0, stuff)
    if crowd is not None:
        stuff[crowd] = 255
    if image is None:
        image = torch.from_numpy(np.stack([labels * 60 % 255, stuff * 70 % 255, labels * 0 + 90]).astype(np.uint8))
    return {"image": image, "instances": truth, "sem_seg": torch.from_numpy(stuff.astype(np.int64))}


def batch_of(count, height=64, width=96):
    """Scenes with three objects each, the last a disc at the frame, and a crowd."""
    samples = []
    for n in range(count):
        labels = np.zeros((height, width), np.int64)
        labels[8 : 30 + n, 6:34] = 1
        labels[20:52, 40 : 62 + n] = 2
        y, x = np.mgrid[:height, :width]
        labels[(y - 40) ** 2 + (x - (width - 4)) ** 2 < 18**2] = 3
        samples.append(sample_of(labels, (0, 1, 0), crowd=(slice(55, 64), slice(0, 20))))
    return samples


def losses_of(model, batch):
    """Of a training step."""
    from detectron2.utils.events import EventStorage

    with EventStorage(0):
        return model(batch)


def losses_of_a_process(rank, folder, batches):
    """Losses of one of two processes, saved in the folder."""
    from detectron2.modeling import build_model

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    losses = losses_of(build_model(small_config(*ALONE)), batches[rank])
    torch.save({name: loss.detach() for name, loss in losses.items()}, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
