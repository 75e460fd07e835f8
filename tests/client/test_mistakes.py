"""What people get wrong is said in words that lead out of it, before anything is sent where it can be known here."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import pkgutil
import ssl
from typing import Any, Final, cast

import httpx2
import msgspec
import pytest
from msgspec import Struct

from sessionmanager import errors, wire
from sessionmanager.client import NEVER, AsyncClient, Unreachable, message
from sessionmanager.wire.common import SECRET_MEMBERS
from tests.client.scripted import Script, answer, client_of
from tests.support.house import PACKAGE

pytestmark = pytest.mark.unit

RECEIPT: Final = {"id": "a", "version": 7, "status": "active"}
TOKEN: Final = "s3cret"


@pytest.mark.parametrize("token", ["", f"{TOKEN}\n", f"Bearer {TOKEN}", f"{TOKEN}\u00e9", f"{TOKEN}\r\nX-Tenant: a"])
@pytest.mark.parametrize("credential", ["token", "api_key"])
async def test_a_credential_that_no_header_takes_is_refused_at_once_and_never_said_to_be_unknown(
    credential: str, token: str
) -> None:
    script = Script(answer(RECEIPT))
    given: dict[str, Any] = {credential: token}
    async with AsyncClient("http://service", transport=script, **given) as client:
        for call in (client.get("a"), client.append("a", [message("user", "hi")])):
            with pytest.raises(errors.Unauthenticated, match="nothing was sent") as refused:
                await call
            assert TOKEN not in str(refused.value)
        with pytest.raises(errors.Unauthenticated, match="nothing was sent"):
            await anext(client.events("a"))
    assert script.seen == []


async def test_a_header_that_cannot_be_sent_is_not_taken_for_a_write_whose_outcome_is_unknown() -> None:
    script = Script(httpx2.LocalProtocolError(f"Illegal header value b'{TOKEN}'"))
    async with client_of(script) as client:
        with pytest.raises(errors.Malformed, match="nothing was sent") as refused:
            await client.append("a", [message("user", "hi")])
    assert (len(script.seen), TOKEN in str(refused.value)) == (1, False)


async def test_a_connection_that_is_in_no_state_to_be_used_is_not_taken_for_a_wrong_header() -> None:
    script = Script(httpx2.LocalProtocolError("Can't send data when our state is ERROR"))
    async with client_of(script, tries_max=2, pause_seconds=0.0) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.append("a", [message("user", "hi")])
    assert len(script.seen) == 2


def failed(cause: BaseException) -> httpx2.ConnectError:
    error = httpx2.ConnectError(f"failed with {TOKEN}")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (httpx2.ConnectError(TOKEN), "nobody answers at http://service:8000: is the service up"),
        (failed(ssl.SSLError(1, "WRONG_VERSION_NUMBER")), "no TLS with http://service:8000"),
        (failed(OSError(61, "refused")), "nobody answers at http://service:8000"),
        (httpx2.PoolTimeout("all used"), "all connections to http://service:8000 were in use"),
        (httpx2.ReadError(TOKEN), "the connection to http://service:8000 broke"),
    ],
)
async def test_who_cannot_reach_the_service_is_told_where_it_was_looked_for(error: Exception, says: str) -> None:
    async with AsyncClient("http://service:8000/prefix", "t", retry=NEVER, transport=Script(error)) as client:
        with pytest.raises(Unreachable) as unreached:
            await client.get("a")
    assert says in str(unreached.value)
    assert TOKEN not in str(unreached.value)


async def test_a_name_that_is_no_host_is_told_as_such() -> None:
    async with AsyncClient("http://no-such-host.invalid", "t", retry=NEVER) as client:
        with pytest.raises(Unreachable, match=r"no such host: http://no-such-host\.invalid"):
            await client.get("a")


async def test_a_session_in_the_place_of_its_id_and_an_empty_id_are_named() -> None:
    script = Script(answer({**RECEIPT, "seqs": [], "duplicates": []}))
    async with client_of(script) as client:
        made = client.session("a")
        with pytest.raises(TypeError, match=r"not AsyncSession: .* `session\.id`"):
            await client.suspend(cast("str", made))
        with pytest.raises(errors.Malformed, match="at least one character"):
            await client.get("")
    assert script.seen == []


@pytest.mark.parametrize("entries", [message("user", "hi"), ["hi"], "hi"])
async def test_one_entry_in_the_place_of_a_list_is_named(entries: Any) -> None:
    script = Script(answer(RECEIPT))
    async with client_of(script) as client:
        with pytest.raises(TypeError, match=r"a list of dictionaries: \[message"):
            await client.append("a", entries)
    assert script.seen == []


def test_a_client_of_another_event_loop_says_so_instead_of_that_a_loop_is_closed() -> None:
    client = client_of(Script(answer(RECEIPT)))
    assert asyncio.run(client.suspend("a")).version == 7
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(client.suspend("a"))


async def test_a_client_is_closed_without_async_with_too() -> None:
    client = client_of(Script(answer(RECEIPT)))
    assert (await client.suspend("a")).version == 7
    await client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await client.suspend("a")


ERRORS: Final = (
    errors.Malformed("m", [errors.FieldError("/a", "b")]),
    errors.MethodNotAllowed(["GET"]),
    errors.IllegalTransition("ended", ["archive"], "said"),
    errors.NotResumable("expired"),
    errors.FloorLost(3),
    errors.QuotaExceeded("sessions", 7),
    errors.MinVersionAhead(4),
    errors.TooLarge(10, "the entry"),
    errors.Invalid([errors.FieldError("/a", "b")]),
    errors.VersionConflict(5),
    errors.FloorTaken("par_1", 2, 9.0),
    errors.JoinTimeout("s", ["asr"]),
    errors.TierUnavailable("warm", retry_after_seconds=3.0),
    errors.OutcomeUnknown(),
    Unreachable("nobody"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.type)
def test_an_error_comes_out_of_a_pool_of_processes_and_out_of_a_copy_as_it_was(
    error: errors.SessionManagerError,
) -> None:
    error.add_note("request_id r-1")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (str(again), again.args, again.members()) == (str(error), error.args, error.members())
        assert again.__dict__ == error.__dict__


def test_the_type_hints_reach_whoever_installs_the_package() -> None:
    assert (PACKAGE / "py.typed").is_file()


for module in pkgutil.iter_modules(wire.__path__):
    importlib.import_module(f"{wire.__name__}.{module.name}")


def structs(base: type[Struct] = Struct) -> set[type[Struct]]:
    """Every body of the wire."""
    found = {one for child in base.__subclasses__() for one in {child, *structs(child)}}
    return {one for one in found if one.__module__.startswith("sessionmanager.wire.")}


WITH_SECRETS: Final = sorted(
    (one for one in structs() if SECRET_MEMBERS & {*one.__struct_fields__}), key=lambda one: one.__name__
)


@pytest.mark.parametrize("body", WITH_SECRETS, ids=lambda body: body.__name__)
def test_what_is_printed_of_a_body_with_a_secret_does_not_show_it(body: type[Struct]) -> None:
    members: dict[str, Any] = {name: TOKEN if name in SECRET_MEMBERS else name for name in body.__struct_fields__}
    made = body(**members)
    assert TOKEN in str(msgspec.to_builtins({name: getattr(made, name) for name in members})), "it is there"
    shown = repr(made) + str([*cast("Any", made).__rich_repr__()]) + f"{made}"
    assert TOKEN not in shown
    assert all(name in shown for name in body.__struct_fields__)
    assert "***" in shown


def test_every_body_of_the_wire_with_a_secret_is_known_here() -> None:
    assert [one.__name__ for one in WITH_SECRETS] == [
        "JoinAnswer",
        "LiveKitAccess",
        "NewApiKey",
        "NewWebhook",
        "ParticipantToken",
        "ResumeAnswer",
        "ResumeWithContext",
        "RoomSession",
        "SocketRequest",
        "TokenAnswer",
    ]
