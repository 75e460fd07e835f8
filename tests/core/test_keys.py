"""The way from the master key to a session's, and cursors: what opens, what never does, and what is never shown."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import pickle
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionmanager.core.keys.cursors import CursorCodec
from sessionmanager.core.keys.hierarchy import TENANT_KEY, SessionKeys
from sessionmanager.core.keys.master import MasterKey, MasterKeys
from sessionmanager.core.keys.sealing import SessionKey, open_body, seal_body
from sessionmanager.errors import DataCorrupt, Malformed, OutcomeUnknown, RevConflict, TierUnavailable
from sessionmanager.model.head import KeyRing
from sessionmanager.words import Key
from tests.support.records import DictRecords

pytestmark = pytest.mark.unit

ROOT = bytes(range(32))
KEY = Key("acme", "call-1")
BODY = b'{"seq":1,"content":"hello"}\n' * 50


def keys(records: DictRecords | None = None, *roots: bytes) -> SessionKeys:
    return SessionKeys(MasterKeys(*(roots or (ROOT,))), records or DictRecords())  # type: ignore[arg-type]


async def session_key(service: SessionKeys, key: Key = KEY) -> SessionKey:
    ring = await service.create(key)
    assert ring.current is not None
    return await service.unwrap(key, ring, ring.current)


# -- the master key


def test_keys_for_other_purposes_are_stable_and_all_different() -> None:
    master, again = MasterKey(ROOT), MasterKey(ROOT)
    purposes = [*master.lasting, master.derive("kek"), master.derive("id")]
    assert master.lasting == again.lasting
    assert len({ROOT, *purposes}) == 7
    assert {len(each) for each in purposes} == {32}
    # Pinned, by HMAC done by hand: another derivation would lock every stored key away.
    extracted = hmac.digest(bytes(32), ROOT, "sha256")
    purposes_of = {"cursor": b"cursor", "derived_id": b"derived-id", "hot_mac": b"hot-mac", "api_key": b"api-key"}
    for name, purpose in purposes_of.items():
        wanted = hmac.digest(extracted, b"sessionmanager:1:" + purpose + b"\x01", "sha256")
        assert getattr(master.lasting, name) == wanted
    assert master.id == "ma92aa24bd025a5f0"


def test_a_master_key_has_32_bytes() -> None:
    for length in (0, 16, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            MasterKey(os.urandom(length))


async def test_no_key_shows_in_a_repr() -> None:
    service = keys()
    key = await session_key(service)
    tenant = await service.tenant("acme")
    masters = MasterKeys(ROOT)
    shown = f"{masters!r} {masters.first!r} {masters.lasting!r} {masters.lasting} {key!r} {[key]}"
    shown += f"{tenant!r} {service!r} {CursorCodec(ROOT)!r}"
    for secret in (ROOT, key.packed()[:32], MasterKey(ROOT).derive("kek"), *masters.lasting):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


# -- tenants and sessions


async def test_a_session_key_comes_back_after_a_restart() -> None:
    records = DictRecords()
    ring = await keys(records).create(KEY)
    assert ring.current is not None
    first = await keys(records).unwrap(KEY, ring, ring.current)
    second = await keys(records).unwrap(KEY, ring, ring.current)
    assert first.packed() == second.packed()
    assert open_body(second, "o", seal_body(first, "o", BODY), max_bytes=len(BODY)) == BODY


async def test_wraps_name_the_key_that_opens_them_and_hold_no_key_in_the_clear() -> None:
    records = DictRecords()
    service = keys(records)
    ring = await service.create(KEY)
    assert ring.current is not None
    tenant_ring = json.loads(records.kept["acme", TENANT_KEY, "ring"][0].data)
    assert ring.wrapped[ring.current].split(".")[1] == tenant_ring["current"]
    assert tenant_ring["wrapped"][tenant_ring["current"]].split(".")[1] == MasterKey(ROOT).id
    secret = (await service.unwrap(KEY, ring, ring.current)).packed()[:32]
    assert secret not in urlsafe_b64decode(ring.wrapped[ring.current].split(".")[2])


async def test_every_session_has_its_own_key() -> None:
    service = keys()
    made = [await session_key(service, Key("acme", f"call-{i}")) for i in range(50)]
    assert len({key.id for key in made}) == len({key.packed() for key in made}) == 50


async def test_a_wrapped_key_opens_nowhere_else() -> None:
    service = keys()
    ring = await service.create(KEY)
    assert ring.current is not None
    renamed = KeyRing(current="s0", wrapped={"s0": ring.wrapped[ring.current]})
    for key, held, key_id in (
        (Key("acme", "call-2"), ring, ring.current),
        (Key("other", "call-1"), ring, ring.current),
        (Key("acm", "ecall-1"), ring, ring.current),
        (KEY, renamed, "s0"),
        (KEY, ring, "s1"),
        (KEY, KeyRing(), ring.current),
    ):
        with pytest.raises(DataCorrupt):
            await service.unwrap(key, held, key_id)


async def test_a_changed_wrap_does_not_open() -> None:
    service = keys()
    ring = await service.create(KEY)
    assert ring.current is not None
    good = ring.wrapped[ring.current]
    start, _, body = good.rpartition(".")
    raw = urlsafe_b64decode(body)
    changed = [urlsafe_b64encode(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :]).decode() for i in range(len(raw))]
    broken = [
        "",
        ".",
        "..",
        "1",
        good[:-1],
        "2" + good[1:],
        "x." + good,
        good.replace(".t", ".u"),
        f"{start}.",
        f"{start}.!",
    ]
    for wrapped in (*broken, *(f"{start}.{text}" for text in changed)):
        with pytest.raises(DataCorrupt):
            await service.unwrap(KEY, KeyRing(current=ring.current, wrapped={ring.current: wrapped}), ring.current)


async def test_a_tenants_key_is_made_once_though_many_ask_at_once() -> None:
    records = DictRecords()
    service = keys(records)
    await asyncio.gather(*(service.create(Key("acme", f"call-{i}")) for i in range(50)))
    assert (records.writes, records.reads) == (1, 5)
    await asyncio.gather(*(service.create(Key("acme", f"call-{i}")) for i in range(50)))
    assert (records.writes, records.reads) == (1, 5)


async def test_of_replicas_that_make_a_tenants_key_at_once_one_wins_and_all_use_it() -> None:
    records = DictRecords()
    replicas = [keys(records) for _ in range(5)]
    rings = await asyncio.gather(*(replica.create(KEY) for replica in replicas))
    assert records.writes == 1
    for ring in rings:
        assert ring.current is not None
        for replica in replicas:
            assert await replica.unwrap(KEY, ring, ring.current)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_tenants_key_whose_write_is_not_known_is_read_again(when: str) -> None:
    records = DictRecords()
    records.failures = [(when, OutcomeUnknown())]
    ring = await keys(records).create(KEY)
    assert ring.current is not None
    assert await keys(records).unwrap(KEY, ring, ring.current)


async def test_a_key_that_cannot_be_kept_is_not_used() -> None:
    records = DictRecords()
    records.failures = [("before", RevConflict())] * 9
    with pytest.raises(TierUnavailable):
        await keys(records).create(KEY)
    assert records.kept == {}


async def test_a_failed_look_up_is_not_remembered() -> None:
    records = DictRecords()
    service = keys(records)
    records.failures = [("read", TierUnavailable("warm"))]
    with pytest.raises(TierUnavailable):
        await service.create(KEY)
    assert (await service.create(KEY)).current is not None


async def test_a_caller_that_goes_away_does_not_take_the_key_from_the_others() -> None:
    service = keys()
    waiting = [asyncio.create_task(service.create(Key("acme", f"call-{i}"))) for i in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    rings = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(rings[0], asyncio.CancelledError)
    assert all(isinstance(ring, KeyRing) for ring in rings[1:])


async def test_only_so_many_tenants_keys_are_held_in_memory() -> None:
    records = DictRecords()
    service = SessionKeys(MasterKeys(ROOT), records, tenants_max=3)  # type: ignore[arg-type]
    for i in range(5):
        await service.create(Key(f"tenant-{i}", "call-1"))
    assert list(service._tenants) == ["tenant-2", "tenant-3", "tenant-4"]
    assert service._loading == {}


async def test_a_tenants_record_of_another_tenant_or_master_does_not_open() -> None:
    records = DictRecords()
    await keys(records).create(KEY)
    data = records.kept["acme", TENANT_KEY, "ring"][0].data
    await records.put_record("other", TENANT_KEY, "ring", data, rev=0)
    with pytest.raises(DataCorrupt):
        await keys(records).create(Key("other", "call-1"))
    with pytest.raises(DataCorrupt, match="was not given"):
        await keys(records, os.urandom(32)).create(KEY)
    for broken in (b"", b"[]", b"{}", b'{"current":"t1","wrapped":{}}', b'{"current":"t1","wrapped":{"t1":"x"}}'):
        other = DictRecords()
        await other.put_record("acme", TENANT_KEY, "ring", broken, rev=0)
        with pytest.raises(DataCorrupt):
            await keys(other).create(KEY)


async def test_a_second_master_key_opens_what_it_wrapped() -> None:
    records, new = DictRecords(), os.urandom(32)
    ring = await keys(records).create(KEY)
    assert ring.current is not None
    assert await keys(records, new, ROOT).unwrap(KEY, ring, ring.current)
    assert await keys(records, ROOT, new).unwrap(KEY, ring, ring.current)


# -- cursors

CODEC = CursorCodec(os.urandom(32))
Payload = st.lists(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=100), max_size=5)


@given(Payload, st.binary(max_size=50))
def test_a_cursor_comes_back_for_the_list_it_was_made_for(payload: list[object], context: bytes) -> None:
    text = CODEC.encode(payload, context=context)
    assert CODEC.decode(text, context=context) == payload
    assert text.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=200) | st.text("ABCabc019-_=", max_size=60))
def test_no_text_but_ours_is_a_cursor(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        CODEC.decode(text, context=b"acme")
    assert [error.pointer for error in caught.value.errors] == ["query/cursor"]


def test_a_cursor_of_another_tenant_filter_or_service_or_with_any_change_is_refused() -> None:
    text = CODEC.encode(("2026-11-21T13:07:39.123Z", "call-1"), context=b"acme|status:active")
    refused = [(text, b"other|status:active"), (text, b"acme|status:ended"), (text, b""), (text, b"acme|status:activ")]
    refused += [
        (text[:i] + ("A" if text[i] != "A" else "B") + text[i + 1 :], b"acme|status:active") for i in range(len(text))
    ]
    refused += [(text[:i], b"acme|status:active") for i in range(len(text))]
    refused += [
        (text + more, b"acme|status:active") for more in ("A", "=", "==", " ", "\n", "\x00", "é", "\ud800", "A" * 9999)
    ]
    messages: set[str] = set()
    for changed, context in refused:
        with pytest.raises(Malformed) as caught:
            CODEC.decode(changed, context=context)
        messages.add(f"{caught.value} {caught.value.members()}")
    assert len(messages) == 1
    with pytest.raises(Malformed):
        CursorCodec(os.urandom(32)).decode(text, context=b"acme|status:active")


def test_a_context_cannot_be_shifted_into_the_payload() -> None:
    text = CODEC.encode([1], context=b"a")
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    shifted = urlsafe_b64encode(raw[:16] + b"a" + raw[16:]).rstrip(b"=").decode()
    with pytest.raises(Malformed):
        CODEC.decode(shifted, context=b"")
