"""What the start-up benchmark makes of what its processes tell it."""

from benchmarks import startup


def told(total: float) -> dict:
    return {
        "samples": 5,
        "read": total - 1,
        "batches": 0.25,
        "first_batch": 0.5,
        "total": total,
        "cpu": 1.0,
        "peak_gb": 2.0,
    }


def test_the_first_batch_is_timed_with_the_index_and_the_index_where_there_was_none():
    first, building, memory = startup._lines("coco", told(42.0), [told(4.0), told(6.0), told(3.0)])
    assert (first.rates["ours"].median, first.rates["ours"].low, first.rates["ours"].high) == (
        4,
        3,
        6,
    )
    assert first.ratio("limit") == 5 / 4
    assert first.ratio(startup.NO_INDEX) == 42 / 4
    assert building.rates["ours"].median == 41
    assert building.missed == ["limit"]
    assert memory.ratio("limit") == 2
