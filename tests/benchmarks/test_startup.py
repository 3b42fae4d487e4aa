"""The report of the start-up benchmark, computed from what its processes measure."""

from benchmarks import startup


def report(total: float) -> dict:
    return {
        "samples": 5,
        "read": total - 1,
        "batches": 0.25,
        "first_batch": 0.5,
        "total": total,
        "cpu": 1.0,
        "peak_gb": 2.0,
    }


def test_the_first_batch_is_timed_with_the_cache_and_building_it_without():
    first, building, memory = startup._lines(
        "coco", report(42.0), [report(4.0), report(6.0), report(3.0)]
    )
    assert (first.rates["ours"].median, first.rates["ours"].low, first.rates["ours"].high) == (
        4,
        3,
        6,
    )
    assert first.ratio("limit") == 5 / 4
    assert first.ratio(startup.NO_CACHE) == 42 / 4
    assert building.rates["ours"].median == 41
    assert building.missed == ["limit"]
    assert memory.ratio("limit") == 2
