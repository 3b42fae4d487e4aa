"""``run.log``: what goes into it."""

import logging

import pytest

from alexnet_keras.errors import RunError
from alexnet_keras.training.run_log import collect_warnings


def test_warnings_from_before_the_folder_was_there_are_in_the_log(tmp_path):
    logger = logging.getLogger("alexnet_keras.test")
    with collect_warnings() as log:
        logger.warning("3 files with suffix .webp are not read")
        with log.write_to(tmp_path / "run.log"):
            logger.warning("later")
    logger.warning("afterwards")
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "WARNING 3 files with suffix .webp are not read",
        "WARNING later",
    ]


def test_a_log_holds_what_the_library_says_and_what_ended_it(tmp_path, caplog):
    path, logger = tmp_path / "run.log", logging.getLogger("alexnet_keras.test")
    caplog.set_level(logging.INFO)

    def ends(error):
        with collect_warnings() as log, log.write_to(path):
            logger.info("an epoch")
            logging.getLogger("weights.test").warning("a warning\nof %d lines", 2)
            logging.getLogger("elsewhere").warning("not ours")
            raise error

    with pytest.raises(RunError, match="^it %s failed$"):
        ends(RunError("it %s failed"))
    logger.info("afterwards")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines if line[:2] == "20"] == [
        "INFO an epoch",
        "WARNING a warning",
        "ERROR it %s failed",
    ]
    assert path.name not in str(logging.getLogger("alexnet_keras").handlers)


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path, capsys):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with collect_warnings() as log, log.write_to(tmp_path / "run.log"):
            logging.getLogger("alexnet_keras.test").info("much longer than ten bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "run.log").stat().st_size <= 10


def test_no_log_can_be_made(tmp_path):
    (tmp_path / "run.log").mkdir()
    with (
        pytest.raises(RunError, match=r"run\.log: cannot be written: Is a directory$"),
        collect_warnings() as log,
        log.write_to(tmp_path / "run.log"),
    ):
        pass
