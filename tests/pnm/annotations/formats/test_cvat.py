"""CVAT's XML for images: shapes are read as CVAT documents them, and all that is no mask survives."""

from pathlib import Path
from xml.etree.ElementTree import canonicalize

import numpy as np
import pytest
from outlined_scenes import assert_same_masks, masks_of, pixels, redraw, scene_set, write_images

from pnm.annotations.annotation_format import Source
from pnm.annotations.formats import cvat
from pnm.annotations.formats.cvat_shapes import rle_text
from pnm.annotations.known_formats import format_of, read_annotations
from pnm.errors import UserError

SHAPES = """
    <polygon label="dog" source="manual" occluded="1" points="2.00,2.00;6.00,2.00;6.00,6.00;2.00,6.00" z_order="1"
      group_id="4"><attribute name="colour">brown &amp; white</attribute>
      <attribute name="tail">true</attribute></polygon>
    <points label="nose" source="manual" occluded="0" points="3.0,3.0;4.0,4.0" z_order="0"></points>
    <mask label="cat" source="auto" occluded="0" rle="1, 3, 2" left="5" top="7" width="3" height="2" z_order="0"></mask>
    <box label="dog" source="manual" occluded="0" xtl="9.0" ytl="3.0" xbr="12.0" ybr="5.0" z_order="0" a="1"></box>
    <mask label="dog" source="manual" occluded="0" rle="0, 2" left="20" top="15" width="2" height="1" z_order="2"
      group_id="4"></mask>
    <tag label="cat" source="manual"></tag>
    <skeleton label="bones" source="manual" z_order="0"><points label="head" points="1.0,1.0"></points></skeleton>
"""
LABELS = "".join(
    f"<label><name>{name}</name><color>#fa3253</color><attributes></attributes>{rest}</label>"
    for name, rest in (("dog", ""), ("cat", ""), ("head", "<parent>bones</parent>"))
)
META = f"<meta><task><id>3</id><mode>annotation</mode><labels>{LABELS}</labels></task><dumped>2024</dumped></meta>"


def save(path, shapes=SHAPES, meta=META, image='name="x/a.jpg" width="24" height="20" subset="Train"', rest=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  {meta}\n'
    text += f'  <image id="7" {image}>{shapes}</image>\n{rest}</annotations>\n'
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    return path


def first(annotations):
    return annotations.read(annotations.images[0])


def test_shapes_are_read_by_their_documentation(tmp_path):
    path = save(tmp_path / "annotations.xml")
    assert format_of(tmp_path) is cvat.FORMAT and format_of(path) is cvat.FORMAT
    annotations = read_annotations(Source(tmp_path, images=tmp_path))
    assert [c.name for c in annotations.categories] == ["dog", "cat"] and annotations.folder == tmp_path
    corner = pixels((6, 7, 8, 8), (5, 8, 6, 9))  # as datumaro reads this RLE
    dog = pixels((2, 2, 6, 6), (20, 15, 22, 16))
    assert_same_masks(annotations, {"x/a.jpg": [corner, pixels((9, 3, 12, 5)), dog]})
    assert annotations.images[0].id == 7
    assert first(annotations)[2].attributes == {"colour": "brown & white", "tail": True, "occluded": True}
    assert [line.removeprefix(f"{path}: ") for line in annotations.remarks] == [
        *(f"1 shapes left out that have no area: {tag}" for tag in ("points", "tag", "skeleton")),
        "1 shapes read as what they enclose: box",
    ]


def test_turned_boxes_and_ellipses(tmp_path):
    turned = '<box label="a" xtl="4" ytl="8" xbr="16" ybr="10" rotation="90.0"/>'
    turned += '<ellipse label="a" cx="12" cy="10" rx="9" ry="4"/>'
    annotations = read_annotations(Source(save(tmp_path / "a.xml", turned, "")))
    box, ellipse = masks_of(annotations, "x/a.jpg")
    np.testing.assert_array_equal(box, pixels((9, 3, 11, 15)))
    y, x = np.mgrid[:20, :24] + 0.5
    reach = np.hypot((x - 12) / 9, (y - 10) / 4)
    assert ellipse[reach < 0.9].all() and not ellipse[reach > 1.15].any()


def test_there_and_back_is_the_same_document(tmp_path):
    path = save(tmp_path / "annotations.xml")
    annotations = read_annotations(Source(path))
    cvat.write({"": annotations}, tmp_path / "out")
    cvat.write({"": annotations}, tmp_path / "twice")
    texts = [(tmp_path / name / "annotations.xml").read_bytes() for name in ("out", "twice")]
    assert texts[0] == texts[1]
    assert canonicalize(texts[0].decode(), strip_text=True) == canonicalize(from_file=path, strip_text=True)


def test_only_a_redrawn_object_changes(tmp_path):
    annotations = read_annotations(Source(save(tmp_path / "a.xml")))
    changed = redraw(annotations, "x/a.jpg", 2, pixels((3, 3, 5, 4), (3, 4, 4, 5)))
    cvat.write({"": changed}, tmp_path / "out")
    cvat.write({"": annotations}, tmp_path / "same")
    new, old = (cvat.read(Source(tmp_path / n / "annotations.xml")).images[0].raw for n in ("out", "same"))
    assert [shape.tag for shape in new] == ["mask", "points", "mask", "box", "tag", "skeleton"]
    kept = {"label": "dog", "source": "manual", "occluded": "1", "z_order": "1", "group_id": "4"}
    assert new[0].attrib == kept | {"rle": "0, 3, 1", "left": "3", "top": "3", "width": "2", "height": "2"}
    assert [(row.get("name"), row.text) for row in new[0]] == [("colour", "brown & white"), ("tail", "true")]
    for one, other in zip(list(new)[1:], [*list(old)[1:4], *list(old)[5:]]):
        assert one.attrib == other.attrib


def test_runs_go_along_the_rows():
    assert rle_text(np.array([[False, True, True], [True, False, False]])) == "1, 3, 2"
    assert rle_text(np.array([[True]])) == "0, 1"
    assert rle_text(np.array([[True, False]])) == "0, 1, 1"


def test_other_formats_keep_masks_and_attributes(tmp_path):
    annotations, masks = scene_set()
    cvat.write({"val": annotations, "train": annotations}, tmp_path)
    again = read_annotations(Source(tmp_path / "annotations_val.xml", split="val"))
    assert_same_masks(again, masks)
    assert [c.name for c in again.categories] == ["cat", "dog"]
    for one, other in zip(annotations.images, again.images):
        for thing, back in zip(annotations.read(one), again.read(other), strict=True):
            assert (thing.category, thing.iscrowd, thing.score) == (back.category, back.iscrowd, back.score)
            assert dict(thing.attributes) == dict(back.attributes)
            assert (thing.polygons is None) == (back.polygons is None)


def test_datumaro_reads_the_same_masks(tmp_path):
    datumaro = pytest.importorskip("datumaro")
    annotations, masks = scene_set()
    cvat.write({"": annotations}, tmp_path)
    write_images(tmp_path / "images")
    sizes = {}
    for item in datumaro.Dataset.import_from(str(tmp_path), "cvat"):
        sizes[item.id] = sorted(int(a.image.sum()) for a in item.annotations if a.type.name == "mask")
    crops = {n: [o.crop for o in annotations.read(i) if o.crop is not None] for n, i in zip(masks, annotations.images)}
    assert sizes == {
        str(Path(n).with_suffix("")): sorted(int(c.pixels.sum()) for c in some) for n, some in crops.items()
    }


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ('<polygon label="a" points="1,1;2;3,3"/>', "expected [[x, y], ...] in pixels"),
        ('<polygon label="a" points="1,x;2,2;3,3"/>', 'has points "1,x;2,2;3,3", expected "x,y;x,y;..."'),
        ('<polygon label="a" points="1,1;2,2"/>', "has 2 points, expected three or more"),
        ('<polygon label="a" points="1,1;2,2;nan,3"/>', "are no numbers"),
        ('<polygon label="a" points="1,1;2,2;900,3"/>', "lie far outside the image of 20 x 24"),
        ('<box label="a" xtl="1" ytl="1" xbr="2"/>', "'ybr': None}, expected numbers"),
        ('<mask label="a" rle="1, 3" left="5" top="7" width="3" height="2"/>', "don't add up to its 2 x 3"),
        ('<mask label="a" rle="-1, 7" left="5" top="7" width="3" height="2"/>', "don't add up"),
        ('<mask label="a" rle="9e9" left="5" top="7" width="3" height="2"/>', "expected counts"),
        ('<mask label="a" rle="99999999999999999999" left="5" top="7" width="3" height="2"/>', "expected counts"),
        ('<mask label="a" rle="6" left="nan" top="7" width="inf" height="2"/>', "don't add up"),
        ('<mask label="a" rle="6" left="" top="7" width="3" height="2"/>', "expected numbers"),
    ],
)
def test_damaged_shapes_are_named(tmp_path, shape, words):
    path = save(tmp_path / "a.xml", '<tag label="a"/>' + shape)
    with pytest.raises(UserError) as error:
        first(read_annotations(Source(path)))
    assert words in str(error.value)
    assert f"{path}: image x/a.jpg, shape 1, a " in str(error.value)


BOMB = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not XML (no element found"),
        ("<annotations><image>", "is not XML (no element found"),
        (f"{BOMB}<annotations>&b;&d;</annotations>", "has a DOCTYPE, which is not read for safety"),
        ('<?xml version="1.0" encoding="nothing"?><annotations/>', "is not XML (unknown encoding"),
        ("<annotation/>", "is an XML of <annotation>, expected"),
        ('<annotations><track id="0"/></annotations>', '"CVAT for video", whose masks lie between frames: export'),
        ('<annotations><image name="../a.jpg" width="2" height="2"/></annotations>', "leads out of the folder"),
        ('<annotations><image name="C:\\a.jpg" width="2" height="2"/></annotations>', "leads out of the folder"),
        ('<annotations><image width="2" height="2"/></annotations>', "the image's name is 'None'"),
        ('<annotations><image name="a.jpg" width="-2"/></annotations>', "image 0, a.jpg: height and width are"),
        (
            '<annotations><image name="a" width="2" height="2"/><image name="a" width="2" height="2"/></annotations>',
            "two images are called a: read one subset (--split)",
        ),
        (
            '<annotations><image name="a" width="2" height="2"><box/></image></annotations>',
            "image a, shape 0, a box, has no label: give it one",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path, text, words):
    path = tmp_path / "a.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_annotations(Source(path), "cvat")
    assert words in str(error.value) and str(path) in str(error.value)


def test_subsets(tmp_path):
    rest = '<image id="8" name="b.jpg" width="3" height="2" subset="Test"/>'
    path = save(tmp_path / "a.xml", rest=rest)
    assert [i.name for i in read_annotations(Source(path)).images] == ["x/a.jpg", "b.jpg"]
    annotations = read_annotations(Source(path, split="Test"))
    assert [i.name for i in annotations.images] == ["b.jpg"] and first(annotations) == ()
    with pytest.raises(UserError, match=r"a\.xml has no images of subset val; there are Test, Train"):
        read_annotations(Source(path, split="val"))
    with pytest.raises(FileNotFoundError, match=r"annotations\.xml is missing"):
        read_annotations(Source(tmp_path), "cvat")
