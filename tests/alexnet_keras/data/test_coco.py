"""The COCO reader, on real files, on small ones made by hand and on files that are not COCO."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from alexnet_keras.data.coco import read_coco, splits
from alexnet_keras.errors import ConfigurationError, DataError
from tests.alexnet_keras.data.coco_files import SMALL, changed, without, write


def test_order_labels_and_columns(tmp_path, capfd):
    samples = read_coco(write(tmp_path), "val")
    assert samples.ids.tolist() == ["3:9", "7:2", "7:5"]
    assert samples.class_names == ("person", "stop sign", "toothbrush")
    assert samples.labels.tolist() == [2, 0, 1]
    assert samples.labels.dtype == np.int32
    assert samples.paths.tolist() == [
        str(tmp_path / "val2017" / name) for name in ("a.jpg", "b.jpg", "b.jpg")
    ]
    assert samples.boxes.tolist() == [[0, 0, 100, 80], [60.5, 20, 39.5, 60], [10, 10, 40, 50]]
    assert samples.boxes.dtype == np.float32
    assert (samples.split, samples.skipped) == ("val2017", {})
    assert capfd.readouterr().out == ""


def test_classes_are_chosen_by_name_in_the_order_of_their_ids(tmp_path):
    samples = read_coco(write(tmp_path), "val2017", classes=["toothbrush", "person"])
    assert samples.class_names == ("person", "toothbrush")
    assert samples.labels.tolist() == [1, 0]
    assert samples.skipped == {}


@pytest.mark.parametrize("classes", [["person", "zebra"], ["person"], []])
def test_classes_that_do_not_fit_are_listed(tmp_path, classes):
    with pytest.raises(ConfigurationError, match="person, stop sign, toothbrush"):
        read_coco(write(tmp_path), "val", classes=classes)


@pytest.mark.parametrize("min_size", [-1, float("nan"), float("inf")])
def test_min_size_out_of_range(tmp_path, min_size):
    with pytest.raises(ConfigurationError, match="min_size"):
        read_coco(write(tmp_path), "val", min_size=min_size)


@pytest.mark.parametrize(
    ("bbox", "clipped"),
    [
        ([-5, -6, 50, 60], [0, 0, 45, 54]),
        ([60, 30, 41, 51], [60, 30, 40, 50]),
        ([-1e300, 0, 2e300, 1e308], [0, 0, 100, 80]),
    ],
)
def test_box_is_clipped_to_its_image(tmp_path, bbox, clipped):
    samples = read_coco(write(tmp_path, changed("annotations", 0, bbox=bbox)), "val")
    assert samples.boxes[2].tolist() == clipped


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"bbox": [10, 10, 40, 0]}, "box without area"),
        ({"bbox": [50, 10, -40, 40]}, "box without area"),
        ({"bbox": [100, 10, 40, 40]}, "box outside its image"),
        ({"bbox": [-60, 10, 50, 50]}, "box outside its image"),
        ({"bbox": [float("nan"), 1, 2, 3]}, "box not four finite numbers"),
        ({"bbox": [0, 0, float("inf"), 50]}, "box not four finite numbers"),
        ({"bbox": [0, 0, 10**400, 50]}, "box not four finite numbers"),
        ({"bbox": ["0", 0, 50, 50]}, "box not four finite numbers"),
        ({"bbox": [True, 0, 50, 50]}, "box not four finite numbers"),
        ({"bbox": []}, "box not four finite numbers"),
        ({"bbox": [0, 0, 31.9, 50]}, "box under 32 px"),
        ({"bbox": [-20, 0, 50, 50]}, "box under 32 px"),
        ({"iscrowd": 1}, "crowd"),
    ],
)
def test_objects_left_out_are_counted_by_reason(tmp_path, fields, reason):
    samples = read_coco(write(tmp_path, changed("annotations", 0, **fields)), "val")
    assert samples.ids.tolist() == ["3:9", "7:2"]
    assert len(samples.boxes) == 2
    assert samples.skipped == {reason: 1}


def test_no_object_left_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match=r"expected at least one object, got none; .*'box under 500 px': 3"
    ):
        read_coco(write(tmp_path), "val", min_size=500)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("", "expected a JSON file"),
        ("{", "expected a JSON file"),
        ("[" * 100000, "expected a JSON file"),
        ("[]", "categories: expected a field of a JSON object, got list"),
        ({"images": [], "annotations": []}, "categories: expected list, got nothing"),
        ({**SMALL, "annotations": {}}, "annotations: expected list, got {}"),
        (
            {**SMALL, "annotations": [3]},
            r"annotations\[0\].id: expected a field of a JSON object, got int",
        ),
        (
            {**SMALL, "categories": []},
            "annotation 5: category_id: expected an id in this file, got 13",
        ),
        (without("images", 1, "width"), r"images\[1\].width: expected int, got nothing"),
        (
            changed("images", 1, height=0),
            r"images\[1\].height: expected a number of pixels, got 0",
        ),
        (changed("images", 1, height=1e400), r"images\[1\].height: expected int, got inf"),
        (changed("images", 0, file_name=None), r"images\[0\].file_name: expected str, got None"),
        (changed("images", 0, id=3), r"images\[1\].id: expected unique ids, got 3 twice"),
        (
            changed("annotations", 2, id=5),
            r"annotations\[2\].id: expected unique ids, got 5 twice",
        ),
        (
            changed("annotations", 2, id=2**63),
            r"annotations\[2\].id: expected a 64-bit integer, got 9223372036854775808",
        ),
        (changed("categories", 0, id=True), r"categories\[0\].id: expected int, got True"),
        (
            changed("annotations", 1, bbox="0,0,1,1"),
            r"annotations\[1\].bbox: expected list, got '0,0,1,1'",
        ),
        (
            changed("annotations", 1, image_id=99),
            "annotation 9: image_id: expected an id in this file, got 99",
        ),
        (
            changed("annotations", 1, category_id=2),
            "annotation 9: category_id: expected an id in this file, got 2",
        ),
        (
            changed("images", 0, file_name="/etc/passwd"),
            "image 7: file_name '/etc/passwd': expected a path within",
        ),
        (
            changed("images", 0, file_name="../a.jpg"),
            r"image 7: file_name '../a.jpg': expected a path within",
        ),
        (changed("images", 0, file_name=".."), "image 7: file_name '..': expected a path within"),
        (
            changed("images", 0, file_name="c.jpg"),
            "image 7: file_name 'c.jpg': expected a file in",
        ),
        (
            changed("images", 0, file_name="no/a.jpg"),
            "image 7: file_name 'no/a.jpg': expected a file in",
        ),
        (changed("images", 0, file_name="a\0b/c\n.jpg"), "image 7: .*expected a file in"),
        (changed("images", 0, file_name=""), "image 7: file_name '': expected a file in"),
    ],
)
def test_a_file_that_is_not_coco(tmp_path, dataset, message):
    with pytest.raises(DataError, match=message) as caught:
        read_coco(write(tmp_path, dataset), "val")
    assert "instances_val2017.json: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_text(tmp_path):
    (write(tmp_path) / "annotations" / "instances_val2017.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected a JSON file"):
        read_coco(tmp_path, "val")


def test_one_category_is_not_enough(tmp_path):
    dataset = {
        **SMALL,
        "categories": SMALL["categories"][:1],
        "annotations": SMALL["annotations"][1:2],
    }
    with pytest.raises(DataError, match="categories: expected two or more, got 1"):
        read_coco(write(tmp_path, dataset), "val")


def test_image_in_a_subfolder_and_an_image_that_no_sample_needs(tmp_path):
    dataset = changed("images", 0, file_name="sub/b.jpg")
    dataset["images"].append({"id": 8, "file_name": "absent.jpg", "width": 5, "height": 5})
    (write(tmp_path, dataset, files=["a.jpg"]) / "val2017" / "sub").mkdir()
    (tmp_path / "val2017" / "sub" / "b.jpg").touch()
    assert read_coco(tmp_path, "val").paths[1] == str(tmp_path / "val2017" / "sub" / "b.jpg")


@pytest.mark.parametrize("link", ["b.jpg", "sub"])
def test_images_may_be_links_out_of_the_root(tmp_path, link):
    outside, root = tmp_path / "outside", write(tmp_path / "root", files=["a.jpg"])
    outside.mkdir()
    (outside / "b.jpg").touch()
    name = "b.jpg" if link == "b.jpg" else "sub/b.jpg"
    write(root, changed("images", 0, file_name=name), files=[])
    (root / "val2017" / link).symlink_to(outside / "b.jpg" if link == "b.jpg" else outside)
    assert read_coco(root, "val").paths[1] == str(root / "val2017" / name)
    (outside / "b.jpg").unlink()
    with pytest.raises(DataError, match=f"image 7: file_name '{name}': expected a file in"):
        read_coco(root, "val")


def test_the_sizes_that_the_boxes_were_drawn_on(tmp_path):
    samples = read_coco(write(tmp_path, changed("images", 1, width=120)), "val")
    assert samples.image_sizes.tolist() == [[120, 80], [100, 80], [100, 80]]
    assert samples.image_sizes.dtype == np.int32


def test_image_folder_may_be_a_link(tmp_path):
    root = write(tmp_path / "root")
    (root / "val2017").rename(tmp_path / "elsewhere")
    (root / "val2017").symlink_to(tmp_path / "elsewhere")
    assert len(read_coco(root, "val")) == 3


@pytest.mark.parametrize("target", ["b.jpg", "nowhere.jpg"])
def test_link_that_leads_nowhere(tmp_path, target):
    write(tmp_path, files=["a.jpg"])
    (tmp_path / "val2017" / "b.jpg").symlink_to(tmp_path / "val2017" / target)
    with pytest.raises(DataError, match="file_name 'b.jpg': expected a file"):
        read_coco(tmp_path, "val")


def test_splits_are_ordered_and_found_by_their_beginning(tmp_path):
    for split in ("val2017", "minival", "train2017"):
        write(tmp_path, split=split)
    assert splits(tmp_path) == ("train2017", "val2017", "minival")
    assert [read_coco(tmp_path, name).split for name in ("train", "val", "val2017")] == [
        "train2017",
        "val2017",
        "val2017",
    ]
    with pytest.raises(
        DataError, match="split 'test': expected one of train2017, val2017, minival"
    ):
        read_coco(tmp_path, "test")
    write(tmp_path, split="train2014")
    with pytest.raises(DataError, match="got train2014, train2017; ask for one"):
        read_coco(tmp_path, "train")


def test_a_val_split_alone_has_no_train_split(tmp_path):
    with pytest.raises(DataError, match="split 'train': expected one of val2017"):
        read_coco(write(tmp_path), "train")


@pytest.mark.parametrize("own", ["train2017", "train"])
def test_without_a_val_split_a_fifth_of_the_images_is_held_out(tmp_path, own):
    names = [f"{number}.jpg" for number in range(400)]
    dataset = {
        **SMALL,
        "images": [
            {"id": i, "file_name": name, "width": 99, "height": 99} for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": i, "image_id": i // 2, "category_id": 1, "bbox": [0, 0, 50, 50]}
            for i in range(800)
        ],
    }
    write(tmp_path, dataset, own, names)
    assert splits(tmp_path) == ("train", "val")
    train, val = read_coco(tmp_path, "train"), read_coco(tmp_path, "val")
    assert (train.split, val.split) == ("train", "val")
    assert not set(train.paths) & set(val.paths)
    assert len(train) + len(val) == 800
    assert len(set(val.paths)) == 80
    assert [Path(path).stem for path in val.paths[:12:2]] == [
        "0",
        "19",
        "26",
        "34",
        "35",
        "36",
    ]  # by sha256sum(1)
    if own == "train2017":
        assert len(read_coco(tmp_path, own)) == 800
        with pytest.raises(DataError, match="'val2017': expected one of train, val, train2017"):
            read_coco(tmp_path, "val2017")


def test_no_option_moves_an_image_from_train_to_val(tmp_path):
    """Two classes of which one is rare and small, several of an image."""
    generator = np.random.default_rng(0)
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 200}
        for number in range(60)
    ]
    annotations = [
        {
            "id": number,
            "image_id": int(generator.integers(60)),
            "category_id": (1, 13, 90)[int(generator.choice(3, p=(0.75, 0.2, 0.05)))],
            "bbox": [0, 0, *generator.integers(20, 200, 2).tolist()],
        }
        for number in range(240)
    ]
    dataset = {**SMALL, "images": images, "annotations": annotations}
    write(tmp_path, dataset, "train", [image["file_name"] for image in images])
    train, val = read_coco(tmp_path, "train"), read_coco(tmp_path, "val")
    for options in ({"classes": ["person", "toothbrush"]}, {"min_size": 0}, {"min_size": 60}):
        assert not set(read_coco(tmp_path, "train", **options).paths) & set(val.paths)
        assert not set(read_coco(tmp_path, "val", **options).paths) & set(train.paths)
    assert set(train.labels) == set(val.labels) == {0, 1, 2}
    assert 8 <= len(set(val.paths)) <= 16


def test_a_root_without_annotations(tmp_path):
    with pytest.raises(DataError, match="annotations: expected a folder, got nothing"):
        splits(tmp_path)
    (tmp_path / "annotations").mkdir()
    with pytest.raises(DataError, match="expected annotations/instances_<split>.json, got none"):
        splits(tmp_path)


def test_coco128(shared_data):
    root = shared_data / "coco128"
    coco = COCO(str(root / "annotations" / "instances_train2017.json"))
    samples = read_coco(root, "train2017", min_size=0)
    assert len(samples) + sum(samples.skipped.values()) == 939
    assert samples.skipped == {"crowd": 10}
    assert len(samples.class_names) == 80
    assert len({ann["category_id"] for ann in coco.anns.values()}) == 71
    assert samples.class_names == tuple(cat["name"] for cat in coco.loadCats(coco.getCatIds()))
    for row in range(0, len(samples), 50):
        annotation = coco.anns[int(samples.ids[row].split(":")[1])]
        assert (
            samples.class_names[samples.labels[row]]
            == coco.cats[annotation["category_id"]]["name"]
        )
        assert Path(samples.paths[row]).is_file()
        np.testing.assert_allclose(samples.boxes[row], annotation["bbox"], atol=0.01)
    train, val, large = (read_coco(root, name) for name in ("train", "val", "train2017"))
    assert len(train) + len(val) == len(large) < len(samples)
    assert large.boxes[:, 2:].min() >= 32
    assert not set(train.paths) & set(val.paths)
