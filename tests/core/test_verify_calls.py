"""`verify` and calls: a row that is missing, stray, damaged or says otherwise than the log is told, and no other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from sessionmanager.core.assembly import Core
from sessionmanager.core.calls.comparing import LAG_SECONDS
from sessionmanager.core.verify import Fault, SessionVerifier
from sessionmanager.model.calls.legs import NewCall, Report
from sessionmanager.tiers.warm.protocol import CallQuery
from sessionmanager.words import Key
from tests.support import scenes
from tests.support.scenes import ALICE, World

pytestmark = pytest.mark.contract

KEY = Key("acme", "call-1")
LEGS = 40
"""More than a head remembers: 16 of them live, 24 over."""


async def leg(core: Core, number: int, key: Key = KEY) -> str:
    """One leg: opened, answered, held, taken back, described and ended, as far as its number says."""
    cid = core.calls.id_of(key.tenant, "sip", f"{key.id}-{number}", None)
    wanted = NewCall(cid, "sip", f"{key.id}-{number}", "inbound", caller="+12025550123", metadata={"n": Raw(b"1.10")})
    await core.calls.open(key.tenant, ALICE, wanted, {}, key.id)
    for report in (
        Report(state="active"), Report(state="on_hold"), Report(metadata={"who": Raw(b'"\\u00fc"')}),
        Report(state="ended", reason="normal"),
    )[: 4 if number < LEGS - 16 else number % 4]:  # fmt: skip
        await core.calls.report(key, cid, ALICE, report)
    return cid


async def legs(world: World) -> list[str]:
    core = world.process()
    ids = [await leg(core, number) for number in range(LEGS)]
    world.clock.seconds += LAG_SECONDS + 1
    # News is in the head alone: neither the log nor a row hears of it.
    await core.calls.report(KEY, ids[-1], ALICE, Report())
    await core.sessions.append(KEY, scenes.said("more", "more"), ALICE)
    return ids


async def told(world: World) -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in await faults(world)]


async def faults(world: World) -> tuple[Fault, ...]:
    core = world.process()
    looked = await SessionVerifier(world.tiers.warm, world.tiers.cold, core.keys, leftovers=True).look(KEY)
    assert not looked.busy
    return looked.faults


def change(folder: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "warm.db", isolation_level=None)) as connection:
        assert connection.execute(sql, values).rowcount == 1


async def test_calls_in_every_state_are_never_told_wherever_their_session_lies(world: World) -> None:
    await legs(world)
    core = world.process()
    assert await told(world) == []
    while await core.works["seal"](KEY):
        assert await told(world) == []
    await core.works["offload"](KEY)
    assert await told(world) == []
    for call in await core.calls.of_session(KEY):
        if call.state != "ended":
            await core.calls.report(KEY, call.id, ALICE, Report(state="ended"))
    await core.sessions.transition(KEY, "suspend", ALICE)
    await core.sessions.archive(KEY, ALICE)
    await core.archiver.run(KEY)
    assert (await world.tiers.warm.load(KEY)).stored.placement == "cold"
    assert await told(world) == []


async def test_a_row_that_is_missing_is_told(world: World, tmp_path: Path) -> None:
    ids = await legs(world)
    for cid in (ids[0], ids[-1]):  # one that the head has forgotten, and one that it has
        change(tmp_path, "DELETE FROM calls WHERE id = ?", cid)
    assert sorted(await told(world)) == sorted([("missing", f"call {ids[0]}"), ("missing", f"call {ids[-1]}")])


async def test_a_row_that_no_commit_of_its_session_wrote_is_told(world: World, tmp_path: Path) -> None:
    ids = await legs(world)
    columns = "tenant, session, version, state, gateway, direction, caller, callee, started_at, settled_at, data"
    change(tmp_path, f"INSERT INTO calls (id, {columns}) SELECT 'stray', {columns} FROM calls WHERE id = ?", ids[3])
    assert await told(world) == [("left", "call stray")]
    await world.tiers.warm.claim_call(KEY.tenant, "claimed", KEY.id)
    assert await told(world) == [("left", "call stray")]  # a claim that nothing came of is no row


@pytest.mark.parametrize(
    ("column", "value"),
    [("state", "ringing"), ("gateway", "twilio"), ("direction", "outbound"), ("caller", "+1"), ("callee", "+1"),
     ("started_at", "2020-01-01T00:00:00.000Z"), ("settled_at", "2020-01-01T00:00:00.000Z"), ("version", 1_000)],
)  # fmt: skip
async def test_a_row_that_differs_is_told_with_what_differs(
    world: World, tmp_path: Path, column: str, value: object
) -> None:
    ids = await legs(world)
    change(tmp_path, f"UPDATE calls SET {column} = ? WHERE id = ?", value, ids[5])
    [fault] = await faults(world)
    assert (fault.kind, fault.where) == ("wrong", f"call {ids[5]}")
    assert column in fault.detail


async def test_what_callers_get_of_a_call_is_compared_too_and_damage_is_named(world: World, tmp_path: Path) -> None:
    ids = await legs(world)
    page = await world.tiers.warm.list_calls(CallQuery(KEY.tenant, 200, (("session", KEY.id),)))
    assert {row.id for row in page.items} == set(ids)
    change(
        tmp_path, "UPDATE calls SET data = (SELECT data FROM calls WHERE id = ?), version = version WHERE id = ?",
        ids[6], ids[7],
    )  # fmt: skip
    assert await told(world) == [("wrong", f"call {ids[7]}")]
    change(tmp_path, "UPDATE calls SET data = substr(data, 1, length(data) - 1) WHERE id = ?", ids[8])
    assert await told(world) == [("damaged", f"call {ids[8]}")]


async def test_a_row_that_a_killed_process_left_to_be_copied_is_told_once_nobody_can_copy_it_any_more(
    world: World, tmp_path: Path
) -> None:
    core = world.process()
    cid = await leg(core, LEGS - 1)
    change(tmp_path, "UPDATE calls SET version = version - 1 WHERE id = ?", cid)
    assert await told(world) == []
    world.clock.seconds += LAG_SECONDS
    assert await told(world) == [("wrong", f"call {cid}")]


async def test_many_rows_are_read_page_by_page(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await legs(world)
    monkeypatch.setattr("sessionmanager.core.calls.comparing.ROWS_PAGE", 7)
    assert await told(world) == []
    change(tmp_path, "DELETE FROM calls WHERE id = ?", ids[20])
    assert await told(world) == [("missing", f"call {ids[20]}")]


async def test_a_head_that_says_otherwise_of_a_call_than_its_log_is_told(world: World, tmp_path: Path) -> None:
    core = world.process()
    cid = await leg(core, LEGS - 1)
    other = await leg(core, 0, Key("acme", "call-2"))
    world.clock.seconds += LAG_SECONDS + 1
    assert await told(world) == []
    part = "SELECT p.data FROM parts p, sessions s WHERE s.id = ? AND p.pos = (s.no << 4 | ?)"
    with closing(sqlite3.connect(tmp_path / "warm.db")) as connection:
        details = {id: connection.execute(part, (id, 1)).fetchone()[0] for id in ("call-1", "call-2")}
    where = "pos = (SELECT no << 4 | 1 FROM sessions WHERE id = 'call-1')"
    change(tmp_path, f"UPDATE parts SET data = ? WHERE {where}", details["call-2"])
    details_told = [fault.detail for fault in await faults(world)]
    assert any(other in detail for detail in details_told)
    assert any(cid in detail for detail in details_told)
