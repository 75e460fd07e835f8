"""What settings mean to the parts of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionmanager.model import instants
from sessionmanager.model.head import Intent
from sessionmanager.model.timers import finish_at
from sessionmanager.settings_checks import SettingsInvalid
from sessionmanager.settings_loader import load_settings
from sessionmanager.settings_parts import core_settings

pytestmark = pytest.mark.unit

NOW = "2026-11-21T12:00:00.000Z"


@pytest.mark.parametrize(("given", "seconds"), [({}, 60), ({"MOVE_GRACE_SECONDS": "20"}, 20)])
def test_a_move_that_a_kill_left_half_way_is_taken_up_after_the_time_of_its_setting(
    tmp_path: Path, given: dict[str, str], seconds: int
) -> None:
    policy = core_settings(load_settings({"data_dir": str(tmp_path)}, environ=given)).policy
    move = Intent(kind="archive", id="i", objects=("o",), at=NOW)
    assert finish_at(move, policy) == instants.plus(NOW, seconds)
    uploads = Intent(kind="collect", id="c", objects=("o",), at=NOW)
    assert finish_at(uploads, policy) >= instants.plus(NOW, 30), "an upload may land as late as it may"


def test_a_time_in_which_no_move_could_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="MOVE_GRACE_SECONDS"):
        load_settings({"data_dir": str(tmp_path)}, environ={"MOVE_GRACE_SECONDS": "1"})
