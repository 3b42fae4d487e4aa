"""Extraction of any layers, in any form, from images that are prepared in another way."""

from dataclasses import replace

import numpy as np
import pytest

from alexnet_keras.configs import architecture
from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.errors import ConfigurationError
from modes.extract import run_extraction
from tests.alexnet_keras.trees import class_folders


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "classes")


@pytest.fixture
def extracted(monkeypatch, data, tmp_path):
    """A call of ``extract`` on a network of two hundredths of the width."""
    monkeypatch.setitem(architecture.VARIANTS, "alexnet", VARIANTS["alexnet"].with_width(0.02))

    def call(**options):
        options = {"weights": "random:0", "splits": "val", "verbose": 0, **options}
        return run_extraction(data=data, out=tmp_path / "f.h5", overwrite=True, **options)

    return call


def test_every_layer_pooled_in_half_precision(extracted, caplog):
    found = extracted(layers=["all", "fc6:pre"], pool="max", dtype="float16")
    assert list(found) == [*VARIANTS["alexnet"].layer_names, "fc6:pre"]
    assert {array.dtype for array in found.values()} == {np.dtype(np.float16)}
    assert found["conv1"].shape == (12, architecture.VARIANTS["alexnet"].layers[0].filters)
    np.testing.assert_array_equal(np.maximum(found["fc6:pre"], 0), found["fc6"])
    about = found.description["layers"]["conv1"]
    assert (about["dtype"], about["pool"]) == ("float16", "max")
    assert found.description["weights"]["source"] == "random:0"
    assert "expected_preprocessing" not in found.description["weights"]
    assert not caplog.records


def test_images_prepared_in_another_way(extracted, caplog):
    found = extracted(layers=["conv5"], resize="none", crop="none", flatten=True)
    assert found["conv5"].shape[1] == found.description["layers"]["conv5"]["shape"][1]
    assert found.description["preprocessing"]["resize"] == "none"
    assert found.description["preprocessing"]["crop"] is None
    expected = found.description["weights"]["expected_preprocessing"]
    assert (expected["resize"], expected["crop"]) == ("warp", 227)
    assert [record.getMessage() for record in caplog.records] == [
        "preprocessing: resize none, crop none instead of resize warp to 256, crop 227, which the "
        "weights expect (random:0)"
    ]
    with pytest.raises(ConfigurationError, match="fc6, which images of 50 x 40 pixels do not fit"):
        extracted(layers=["fc6"], resize="none", crop="none")


@pytest.mark.slow
def test_values_too_large_for_half_precision_are_told(extracted, caplog, monkeypatch):
    initial = replace(VARIANTS["alexnet"].initial_values, stddev=100.0)
    wide = replace(architecture.VARIANTS["alexnet"], initial_values=initial)
    monkeypatch.setitem(architecture.VARIANTS, "alexnet", wide)
    found = extracted(layers=["conv1", "prob"], dtype="float16")
    count = int(np.isinf(found["conv1"]).sum())
    assert [record.getMessage() for record in caplog.records] == [
        f"dtype: values too large for it became infinite (conv1 {count}); use float32"
    ]
