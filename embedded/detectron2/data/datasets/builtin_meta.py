"""Categories of COCO, Cityscapes and ADE20K: published facts, each table one string of ``id colour name`` entries.

Ids are the data sets' own, colours hexadecimal RGB. COCO's stuff ids are those of the panoptic task.
"""

from pnm.ade20k_classes import ADE20K_CLASSES

_COCO_THINGS = (
    "1 dc143c person; 2 770b20 bicycle; 3 00008e car; 4 0000e6 motorcycle; 5 6a00e4 airplane; 6 003c64 bus; "
    "7 005064 train; 8 000046 truck; 9 0000c0 boat; 10 faaa1e traffic light; 11 64aa1e fire hydrant; "
    "13 dcdc00 stop sign; 14 af74af parking meter; 15 fa001e bench; 16 a52a2a bird; 17 ff4dff cat; 18 00e2fc dog; "
    "19 b6b6ff horse; 20 005200 sheep; 21 78a69d cow; 22 6e4c00 elephant; 23 ae39ff bear; 24 c76400 zebra; "
    "25 480076 giraffe; 27 ffb3f0 backpack; 28 007d5c umbrella; 31 d10097 handbag; 32 bcd0b6 tie; "
    "33 00dcb0 suitcase; 34 ff63a4 frisbee; 35 5c0049 skis; 36 8581ff snowboard; 37 4eb4ff sports ball; "
    "38 00e400 kite; 39 aefff3 baseball bat; 40 2d59ff baseball glove; 41 868667 skateboard; 42 9194ae surfboard; "
    "43 ffd0ba tennis racket; 44 c5e2ff bottle; 46 ab8601 wine glass; 47 6d3f36 cup; 48 cf8aff fork; "
    "49 97005f knife; 50 09503d spoon; 51 546933 bowl; 52 4a4169 banana; 53 a6c466 apple; 54 d0c3d2 sandwich; "
    "55 ff6d41 orange; 56 008f95 broccoli; 57 b300c2 carrot; 58 d1636a hot dog; 59 057900 pizza; 60 e3ffcd donut; "
    "61 93bad0 cake; 62 994501 chair; 63 035fa1 couch; 64 a3ff00 potted plant; 65 7700aa bed; "
    "67 00b6c7 dining table; 70 00a578 toilet; 72 b78258 tv; 73 5f2000 laptop; 74 827287 mouse; 75 6e8185 remote; "
    "76 a64a76 keyboard; 77 db8eb9 cell phone; 78 4fd272 microwave; 79 b25a3e oven; 80 41460f toaster; "
    "81 7fa773 sink; 82 3b696a refrigerator; 84 8e6c2d book; 85 c4ac00 clock; 86 5f3650 vase; 87 804cff scissors; "
    "88 c93901 teddy bear; 89 f6007a hair drier; 90 bfa2d0 toothbrush"
)
_COCO_STUFF = (
    "92 ffff80 banner; 93 93d3cb blanket; 95 966464 bridge; 100 a8abac cardboard; 107 9270c6 counter; "
    "109 d2aa64 curtain; 112 5c8859 door-stuff; 118 da58b8 floor-wood; 119 f18100 flower; 122 d911ff fruit; "
    "125 7c4ab5 gravel; 128 464646 house; 130 ffe4ff light; 133 9ad000 mirror-stuff; 138 c1005c net; "
    "141 4c5b71 pillow; 144 ffb4c3 platform; 145 6a9ab0 playingfield; 147 e6968c railroad; 148 3c8fff river; "
    "149 804080 road; 151 5c5237 roof; 154 fed47c sand; 155 494dae sea; 156 ffa062 shelf; 159 ffffff snow; "
    "161 68546d stairs; 166 a9a483 tent; 168 e1c7ff towel; 171 89364a wall-brick; 175 879edf wall-stone; "
    "176 07f6e7 wall-tile; 177 6bffc8 wall-wood; 178 3a2995 water-other; 180 b7798e window-blind; "
    "181 ff4961 window-other; 184 6b8e23 tree-merged; 185 be9999 fence-merged; 186 928b8d ceiling-merged; "
    "187 4682b4 sky-other-merged; 188 86c79c cabinet-merged; 189 d1e28c table-merged; 190 60246c floor-other-merged; "
    "191 606060 pavement-merged; 192 40aa40 mountain-merged; 193 98fb98 grass-merged; 194 d0e5e4 dirt-merged; "
    "195 cebaab paper-merged; 196 98a140 food-other-merged; 197 747000 building-other-merged; "
    "198 00728f rock-merged; 199 66669c wall-other-merged; 200 fa8dff rug-merged"
)
_CITYSCAPES_STUFF = (
    "7 804080 road; 8 f423e8 sidewalk; 11 464646 building; 12 66669c wall; 13 be9999 fence; 17 999999 pole; "
    "19 faaa1e traffic light; 20 dcdc00 traffic sign; 21 6b8e23 vegetation; 22 98fb98 terrain; 23 4682b4 sky"
)
_CITYSCAPES_THINGS = (
    "24 dc143c person; 25 ff0000 rider; 26 00008e car; 27 000046 truck; 28 003c64 bus; 31 005064 train; "
    "32 0000e6 motorcycle; 33 770b20 bicycle"
)


def _parse(table: str, isthing: int, color_type: type) -> list[dict]:
    entries = (entry.split(" ", 2) for entry in table.split("; "))
    return [
        {"color": color_type(bytes.fromhex(color)), "isthing": isthing, "id": int(number), "name": name}
        for number, color, name in entries
    ]


COCO_CATEGORIES = _parse(_COCO_THINGS, 1, list) + _parse(_COCO_STUFF, 0, list)
CITYSCAPES_CATEGORIES = [
    dict(category, trainId=train_id)
    for train_id, category in enumerate(_parse(_CITYSCAPES_STUFF, 0, tuple) + _parse(_CITYSCAPES_THINGS, 1, tuple))
]
ADE20K_SEM_SEG_CATEGORIES = list(ADE20K_CLASSES)


def _only(categories: list[dict], isthing: int) -> list[dict]:
    return [category for category in categories if category["isthing"] == isthing]


def _column(categories: list[dict], key: str) -> list:
    return [category[key] for category in categories]


def _coco_instances() -> dict:
    things = _only(COCO_CATEGORIES, 1)
    return {
        "thing_classes": _column(things, "name"),
        "thing_colors": _column(things, "color"),
        "thing_dataset_id_to_contiguous_id": {category["id"]: i for i, category in enumerate(things)},
    }


def _coco_panoptic_separated() -> dict:
    """Things as in the instance task; stuff from 1, with 0 for the pixels of all things together."""
    stuff = _only(COCO_CATEGORIES, 0)
    names = [name.replace("-other", "").replace("-merged", "") for name in _column(stuff, "name")]
    return {
        "stuff_classes": ["things", *names],
        "stuff_colors": [[82, 18, 128], *_column(stuff, "color")],
        "stuff_dataset_id_to_contiguous_id": {**{c["id"]: i for i, c in enumerate(stuff, 1)}, 0: 0},
        **_coco_instances(),
    }


def panoptic_meta(categories: list[dict]) -> dict:
    """Things and stuff share one range of ids, 0 to len(categories) − 1, so both lists name all of them."""
    names, colors = _column(categories, "name"), _column(categories, "color")
    meta = {"thing_classes": names, "thing_colors": colors, "stuff_classes": [*names], "stuff_colors": [*colors]}
    for kind, isthing in (("thing", 1), ("stuff", 0)):
        ids = {category["id"]: i for i, category in enumerate(categories) if category["isthing"] == isthing}
        meta[f"{kind}_dataset_id_to_contiguous_id"] = ids
    return meta


def _cityscapes() -> dict:
    return {
        "thing_classes": _column(_only(CITYSCAPES_CATEGORIES, 1), "name"),
        "stuff_classes": _column(CITYSCAPES_CATEGORIES, "name"),
    }


_METADATA = {
    "coco": _coco_instances,
    "coco_panoptic_separated": _coco_panoptic_separated,
    "coco_panoptic_standard": lambda: panoptic_meta(COCO_CATEGORIES),
    "cityscapes": _cityscapes,
}


def _get_builtin_metadata(dataset_name: str) -> dict:
    """Metadata for "coco", "coco_panoptic_separated", "coco_panoptic_standard" or "cityscapes"."""
    if dataset_name not in _METADATA:
        raise KeyError(f"no built-in metadata for {dataset_name!r}; there is some for {', '.join(_METADATA)}")
    return _METADATA[dataset_name]()
