"""Opening warm on MongoDB: which servers are refused, what is made, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo import AsyncMongoClient

from sessionmanager.cli.upkeep.migrate import migrate
from sessionmanager.errors import TierUnavailable
from sessionmanager.model import instants
from sessionmanager.tiers.warm.mongo.layout import INDEXES
from sessionmanager.tiers.warm.mongo.tier import MongoWarm, open_mongo
from tests.support.builders import KEY, a_change, a_line
from tests.support.mongo import EMBRACING, LEAKS, Proxied, a_database, a_proxied

pytestmark = [pytest.mark.server, LEAKS]

CANARY = "s3cr3t-p4ssw0rd"


@pytest.fixture
async def place() -> AsyncIterator[Proxied]:
    async with a_proxied(replica_set=True) as place:
        yield place


async def opened(url: str, **options: Any) -> str:
    """How it reads exactly, once it is open."""
    async with open_mongo(url, **options) as warm:
        assert isinstance(warm, MongoWarm)
        await warm.commit(a_change())
        assert (await warm.load(KEY)).stored.rev == 1
        return "linearizable" if warm._link.linearizable else "witnessed"  # pyright: ignore[reportPrivateUsage]


async def test_a_replica_set_is_found_from_one_of_its_members(place: Proxied) -> None:
    assert await opened(place.url) == "linearizable"


async def test_a_standalone_server_is_refused_unless_somebody_says_that_it_may_be_one() -> None:
    async with a_database() as url:
        with pytest.raises(TierUnavailable, match="replica set, or set MONGO_STANDALONE=allowed"):
            await opened(url)
        await opened(url, standalone="allowed")


async def test_a_set_whose_majority_forgets_is_refused(place: Proxied) -> None:
    weak = {"config": {"writeConcernMajorityJournalDefault": False, "members": []}, "ok": 1.0}
    place.proxy.answer("replSetGetConfig", weak)
    with pytest.raises(TierUnavailable, match="writeConcernMajorityJournalDefault"):
        await opened(place.url)
    place.proxy.answer("replSetGetConfig", {"config": {"writeConcernMajorityJournalDefault": True}, "ok": 1.0})
    await opened(place.url)


async def test_a_server_that_keeps_its_data_in_memory_is_refused(place: Proxied) -> None:
    place.proxy.answer("serverStatus", {"storageEngine": {"name": "inMemory", "persistent": False}, "ok": 1.0})
    with pytest.raises(TierUnavailable, match="memory alone"):
        await opened(place.url)


async def test_a_server_that_does_not_confirm_the_pinned_level_is_refused(place: Proxied) -> None:
    concern = {"ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    place.proxy.answer("insert", concern)
    with pytest.raises(Exception, match="MongoDB") as caught:
        await opened(place.url)
    assert caught.typename in ("TierUnavailable", "OutcomeUnknown")


async def test_a_server_that_is_no_primary_is_refused(place: Proxied) -> None:
    place.proxy.hello = {"ismaster": False, "isWritablePrimary": False, "secondary": True}
    with pytest.raises(TierUnavailable, match="primary"):
        await opened(f"{place.url}&serverSelectionTimeoutMS=600")


@pytest.mark.parametrize("code", [2, 9, 72, 123])
async def test_where_a_server_has_no_linearizable_reads_each_is_witnessed(place: Proxied, code: int) -> None:
    place.proxy.answer("find", {"ok": 0.0, "code": code, "errmsg": "no such level"})
    assert await opened(place.url) == "witnessed"


@pytest.mark.parametrize("refusal", [59, 13])
async def test_what_a_server_does_not_tell_is_a_warning(
    place: Proxied, refusal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("replSetGetConfig", "serverStatus", "buildInfo"):
        place.proxy.answer(command, {"ok": 0.0, "code": refusal, "errmsg": "no"})
    await opened(place.url)
    assert "is not told" in capsys.readouterr().out


async def test_a_layout_of_a_newer_release_is_not_touched(place: Proxied) -> None:
    async with AsyncMongoClient(place.direct) as client:
        await client.get_default_database()["state"].insert_one({"_id": "layout", "format": 99})
        with pytest.raises(TierUnavailable, match="newer release"):
            await opened(place.url)
        names = await client.get_default_database().list_collection_names()
        assert "sessions" not in names


async def test_every_index_is_made_as_planned_and_again_is_fine() -> None:
    async with a_database() as url:
        for _ in range(2):
            async with open_mongo(url, **EMBRACING):
                pass
        async with AsyncMongoClient(url) as client:
            database = client.get_default_database()
            for name, plans in INDEXES.items():
                found = await database[name].index_information()
                for plan in plans:
                    assert found[plan.name]["key"] == [(field, 1) for field in plan.fields]
                    assert found[plan.name].get("sparse", False) is plan.sparse
                    assert found[plan.name].get("expireAfterSeconds") == plan.expire_after_seconds
                assert set(found) == {"_id_", *(plan.name for plan in plans)} or not plans


async def test_a_user_who_may_not_make_indexes_needs_none_where_they_are_there(place: Proxied) -> None:
    refused = {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not allowed"}
    place.proxy.answer("createIndexes", refused, times=100)
    with pytest.raises(TierUnavailable, match="sessionmanager migrate"):
        await opened(place.url)
    async with open_mongo(place.direct, **EMBRACING):
        pass
    await opened(place.url)


async def test_indexes_that_are_there_in_another_form_are_named(place: Proxied) -> None:
    conflict = {"ok": 0.0, "code": 86, "codeName": "IndexKeySpecsConflict", "errmsg": CANARY}
    place.proxy.answer("createIndexes", conflict)
    with pytest.raises(TierUnavailable, match=r"indexes of sessions cannot be made \(.*code 86") as caught:
        await opened(place.url)
    assert CANARY not in str(caught.value)


async def test_a_server_that_is_not_there_is_told_soon_and_without_its_password() -> None:
    url = f"mongodb://user:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=300"
    with pytest.raises(TierUnavailable, match="no primary can be reached") as caught:
        await opened(url)
    assert CANARY not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


async def test_neither_passwords_nor_conversations_are_logged(
    place: Proxied, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_mongo(place.url) as warm:
        await warm.commit(a_change(entries=[a_line(1, CANARY)]))
        await warm.load(KEY, tail=1)
    assert CANARY not in caplog.text
    told = capsys.readouterr()
    assert CANARY not in told.out + told.err


async def test_levels_are_those_of_the_code_whatever_the_url_says(place: Proxied) -> None:
    async with open_mongo(f"{place.url}&w=majority&journal=true&readPreference=primary") as warm:
        await warm.commit(a_change())
        await warm.load(KEY)
        await warm.commit(a_change(rev=1))
        await warm.due("2100-01-01T00:00:00.000Z", 5)
        await warm.find_key(KEY, b"scope")
        await warm.put_record("acme", "kind", "id", b"x", rev=0)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for name, command in place.proxy.commands:
        by_name.setdefault(name, []).append(command)
    for name in ("insert", "update", "delete"):
        assert {str(sorted(command["writeConcern"].items())) for command in by_name[name]} == {
            "[('j', True), ('w', 'majority')]"
        }
    levels = {(command["find"], command.get("readConcern", {}).get("level")) for command in by_name["find"]}
    assert ("sessions", "linearizable") in levels
    assert {level for _, level in levels} == {"linearizable", "majority"}
    assert all("maxTimeMS" in command for name in ("find", "insert", "update") for command in by_name[name])
    assert all(command["$db"] for command in by_name["find"])


async def test_warms_clock_is_the_servers_wherever_the_service_runs(
    place: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        async with open_mongo(place.url) as warm:
            assert abs(instants.to_ms(warm.now()) / 1000 - time.time()) < 5
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_migrate_makes_what_the_service_then_needs_no_rights_for(place: Proxied) -> None:
    arguments = ("--json",)
    environment = {"MONGO_URI": place.url, "MASTER_KEY_FILE": "/none", "JWT_SECRET": "0123456789abcdefghij" * 2}
    result = await asyncio.to_thread(CliRunner().invoke, migrate, arguments, env=environment)
    assert result.exit_code == 0, result.output
    assert '"migrated":true' in result.stdout
    refused = {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not allowed"}
    place.proxy.answer("createIndexes", refused, times=100)
    assert await opened(place.url) == "linearizable"
