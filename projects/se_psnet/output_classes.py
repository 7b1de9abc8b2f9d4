"""From the network's classes to those that a data set's evaluators take."""

from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..dataset_mappers.panoptic_classes import PanopticClasses, classes_of


@dataclass(frozen=True)
class OutputClasses:
    """Contiguous ids of a data set, by the network's numbers.

    Attributes:
        things: of each thing class, T.
        stuff: of each label of the stuff head, S + 1, of which the first, "other", has none (-1).
        semantic_classes: of the data set's semantic labels, in which things have their ids, too; 0 if its labels are
            the stuff head's own, "other" being 0.
    """

    things: tuple[int, ...]
    stuff: tuple[int, ...]
    semantic_classes: int = 0

    @classmethod
    def plain(cls, things: int, stuff: int) -> "OutputClasses":
        """Numbers as they are, as Panoptic FPN has them."""
        return cls(tuple(range(things)), (-1, *range(1, stuff + 1)))

    @classmethod
    def of_data(cls, classes: PanopticClasses) -> "OutputClasses":
        """Of a panoptic data set's classes."""
        things = tuple(category for _, category in classes.things)
        stuff = (-1, *(~category for _, category in classes.stuff))
        plain = cls.plain(len(things), len(stuff) - 1)
        return cls(things, stuff, 0 if stuff == plain.stuff else 1 + max(*things, *stuff))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "OutputClasses":
        """Of the first of ``DATASETS.TEST`` and ``TRAIN`` that has panoptic classes, as many as the network; else
        plain ones."""
        node = cfg.MODEL.SE_PSNET
        for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN) if node.PANOPTIC else ():
            metadata = MetadataCatalog.get(name)
            if metadata.get("stuff_dataset_id_to_contiguous_id", None) is None:
                continue
            classes = classes_of(name, metadata)
            if (len(classes.things), len(classes.stuff)) == (node.NUM_THINGS, node.NUM_STUFF):
                return cls.of_data(classes)
        return cls.plain(node.NUM_THINGS, node.NUM_STUFF)
