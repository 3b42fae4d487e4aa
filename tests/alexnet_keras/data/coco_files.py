"""Small COCO data sets made by hand, right and wrong."""

import copy
import json

SMALL = {
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 100, "height": 80},
        {"id": 3, "file_name": "a.jpg", "width": 100, "height": 80},
    ],
    "categories": [
        {"id": 90, "name": "toothbrush"},
        {"id": 1, "name": "person"},
        {"id": 13, "name": "stop sign"},
    ],
    "annotations": [
        {"id": 5, "image_id": 7, "category_id": 13, "bbox": [10, 10, 40, 50], "iscrowd": 0},
        {"id": 9, "image_id": 3, "category_id": 90, "bbox": [0, 0, 100, 80]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [60.5, 20, 39.5, 60], "iscrowd": 0},
    ],
}


def write(root, dataset=SMALL, split="val2017", files=("a.jpg", "b.jpg")):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    text = dataset if isinstance(dataset, str) else json.dumps(dataset)
    (root / "annotations" / f"instances_{split}.json").write_text(text)
    (root / split).mkdir(exist_ok=True)
    for name in files:
        (root / split / name).touch()
    return root


def changed(table, index, **fields):
    dataset = copy.deepcopy(SMALL)
    dataset[table][index].update(fields)
    return dataset


def without(table, index, field):
    dataset = copy.deepcopy(SMALL)
    del dataset[table][index][field]
    return dataset
