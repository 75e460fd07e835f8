"""Calls over HTTP, beyond one session: lists, look-ups, archive and erasure, the feed, records for billing."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from sessionmanager.core.calls import export
from sessionmanager.core.calls.export import COLUMNS
from sessionmanager.model import instants
from sessionmanager.tiers.warm.protocol import CallPage, CallQuery
from sessionmanager.tiers.warm.sqlite import SqliteWarm
from tests.support.gateways import ANNA, DESK, ended, opened
from tests.support.server import Served, problem
from tests.support.streams import asgi_stream

pytestmark = pytest.mark.contract


# -- lists, look-ups, erasure


def test_lists_filter_by_everything_and_by_any_form_of_an_address(service: Served) -> None:
    caller = service.caller(tenant="t-list")
    one = opened(caller, gateway_call_id="l1", caller=ANNA, callee=DESK, started_at="2026-11-01T00:00:00Z")
    two = opened(
        caller, gateway="twilio", gateway_call_id="l2", direction="outbound", caller=DESK, callee="client:alice",
        state="active", started_at="2026-11-02T00:00:00Z",
    )  # fmt: skip
    ended(caller, one, reason="busy")

    def found(**query: Any) -> list[str]:
        return [call["id"] for call in caller.get("/calls", params=query).json()["items"]]

    first, second = one["call"]["id"], two["call"]["id"]
    assert found() == [second, first]
    assert found(sort="ended_at") == [first]
    for query, wanted in (
        ({"state": "active"}, [second]), ({"state": "ended"}, [first]), ({"gateway": "sip"}, [first]),
        ({"direction": "outbound"}, [second]), ({"caller": "tel:+1-202-555-0123"}, [first]),
        ({"callee": "client:alice"}, [second]), ({"session": two["session_id"]}, [second]),
        ({"started_after": "2026-11-02T00:00:00Z"}, [second]), ({"started_before": "2026-11-02T00:00:00Z"}, [first]),
        ({"ended_after": "2026-11-21T00:00:00Z"}, [first]), ({"ended_before": "2026-11-21T00:00:00Z"}, []),
        ({"caller": ANNA, "gateway": "twilio"}, []), ({"caller": "anonymous"}, []),
    ):  # fmt: skip
        assert found(**query) == wanted, query
    assert [call["id"] for call in caller.pages("/calls", limit=1)] == [second, first]
    problem(caller.get("/calls?limit=201"), 400, "malformed")
    problem(caller.get("/calls?state=dead"), 400, "malformed")
    cursor = caller.get("/calls?limit=1").json()["next_cursor"]
    problem(caller.get(f"/calls?limit=1&state=active&cursor={cursor}"), 400, "malformed")


def test_the_live_or_last_session_is_found_by_its_calls(service: Served) -> None:
    caller = service.caller(tenant="t-lookup")
    first = opened(caller, gateway_call_id="SCL_1", caller='"Anna" <sip:anna@Example.COM>', callee=DESK)
    session = first["session_id"]
    for query in ("caller=sip:anna@example.com", "callee=%2B1%20202%20555%200199", "external_id=SCL_1"):
        assert caller.get(f"/lookup?{query}").json()["id"] == session, query
    second = opened(caller, gateway_call_id="SCL_2", session_id=session, caller="+4930555")
    assert caller.get("/lookup?caller=tel:%2B49-30-555").json()["id"] == second["session_id"] == session
    for call in (first, second):
        ended(caller, call)
    caller.post(f"/sessions/{session}/end")
    assert caller.get("/lookup?external_id=SCL_1").json()["status"] == "ended"
    problem(caller.get("/lookup?caller=%2B999"), 404, "not-found")


def test_a_session_is_found_by_a_call_that_its_head_has_forgotten(service: Served) -> None:
    caller = service.caller(tenant="t-old")
    for number in range(18):
        call = {"gateway": "twilio", "gateway_call_id": f"CA{number}", "caller": f"+493000{number:04d}"}
        ended(caller, opened(caller, session_id="queue", **call))
    for query in ("caller=tel:%2B49-3000-0000", "external_id=CA0", "external_id=CA17"):
        assert caller.get(f"/lookup?{query}").json()["id"] == "queue", query
    caller.delete("/sessions/queue")
    problem(caller.get("/lookup?external_id=CA0"), 404, "not-found")
    problem(caller.get("/lookup?caller=%2B4930000000"), 404, "not-found")


def test_calls_survive_an_archive_and_are_gone_with_an_erasure(service: Served) -> None:
    caller = service.caller(tenant="t-moves")
    call = opened(caller, gateway_call_id="m1", caller=ANNA)
    session, at = call["session_id"], f"/calls/{call['call']['id']}"
    caller.post(f"/sessions/{session}/suspend")
    problem(caller.post(f"/sessions/{session}/archive"), 409, "illegal-transition")
    done = ended(caller, call)
    service.archive(caller, session)
    assert caller.get("/calls").json()["items"] == [done]
    assert caller.get(at).json() == done
    assert caller.get(f"/lookup?caller={ANNA.replace('+', '%2B')}").json()["id"] == session
    back = opened(caller, gateway_call_id="m2", session_id=session)
    assert [one["id"] for one in caller.read(session)["calls"]] == [done["id"], back["call"]["id"]]
    assert caller.delete(f"/sessions/{session}").status_code == 202
    assert caller.get("/calls").json()["items"] == []
    problem(caller.get(at), 404, "not-found")
    problem(caller.patch(at, {"state": "active"}), 404, "not-found")
    assert opened(caller, gateway_call_id="m1")["session_id"] != session


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_a_page_that_is_short_right_after_an_erasure_says_where_to_go_on(
    service: Served, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """As a warm tier answers that leaves rows of erased sessions out of a page that it has cut already."""
    caller = service.caller(tenant=f"t-short-{form}")
    kept: list[str] = []
    for number in range(9):
        name = "kept" if number in (0, 5, 8) else "gone"
        call = opened(caller, session_id=name, gateway_call_id=f"{form}-{number}")
        ended(caller, call)
        kept += [call["call"]["id"]] if name == "kept" else []
    whole = SqliteWarm.list_calls

    async def cut(warm: SqliteWarm, query: CallQuery) -> CallPage:
        page = await whole(warm, query)
        fresh = instants.plus(page.complete_until, 60)  # an export holds back what ended just now
        rows = tuple(row for row in page.items if b'"session_id":"gone"' not in row.data)
        return page._replace(items=rows, complete_until=fresh)

    monkeypatch.setattr(SqliteWarm, "list_calls", cut)
    monkeypatch.setattr(export, "LAG_SECONDS", -60.0)
    found: list[str] = []
    sizes: list[int] = []
    cursor: str | None = None
    for _ in range(9):
        answer = caller.get("/calls", params={"limit": "2", "format": form, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        if form == "json":
            items, cursor = answer.json()["items"], answer.json()["next_cursor"]
        else:
            items = [json.loads(line) for line in answer.text.splitlines()]
            cursor = answer.headers["next-cursor"] if "link" in answer.headers else None
        found += [item["id"] for item in items]
        sizes.append(len(items))
        if cursor is None:
            break
    assert found == (kept[::-1] if form == "json" else kept)
    assert sizes == ([1, 1, 0, 0, 1] if form == "json" else [1, 0, 1, 0, 1])


# -- events, and records for billing


def test_the_tenants_feed_hears_what_becomes_of_calls(service: Served) -> None:
    caller = service.caller(tenant="t-feed")

    async def hear() -> list[str]:
        async with asgi_stream(service.service.app, "/events", caller.token or "", []) as stream:
            await stream.until(1)
            body = {"gateway": "sip", "gateway_call_id": "f1", "state": "ringing", "caller": ANNA}
            call = (await caller.send("POST", "/calls", json=body)).json()
            at = f"/sessions/{call['session_id']}/calls/{call['call']['id']}"
            for state in ("active", "on_hold", "active"):
                await caller.send("PATCH", at, json={"state": state})
            await caller.send("POST", f"{at}/end", json={})
            await stream.until(8)
            return [event.name for event in stream.events]

    assert service.run(hear())[1:] == [
        "session.created",
        "session.status_changed",
        "call.opened",
        "call.answered",
        "call.held",
        "call.taken_back",
        "call.ended",
    ]


def test_live_calls_are_on_the_page_of_metrics(service: Served) -> None:
    page = service.nobody().get("/metrics").text
    assert 'sessionmanager_calls{state="active"}' in page
    assert 'state="ended"' not in page


def test_records_for_billing_are_complete_and_the_same_each_time(service: Served) -> None:
    caller = service.caller(tenant="t-bill")
    for number in range(5):
        call = opened(caller, gateway_call_id=f"x{number}", caller=ANNA, callee=f"=1+{number}", state="active")
        ended(caller, call, ended_by="caller")
    opened(caller, gateway_call_id="live", caller=ANNA)

    def page(**query: Any) -> Any:
        answer = caller.get("/calls", params={"format": "csv", **query})
        assert answer.status_code == 200, answer.text
        return answer

    service.until(lambda: page().content.count(b"\r\n") == 6, "five records and their header")
    whole = page()
    assert whole.headers["content-type"].startswith("text/csv")
    assert "link" not in whole.headers
    rows = list(csv.DictReader(io.StringIO(whole.text, newline="")))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["caller"] for row in rows] == [ANNA] * 5
    assert {row["disposition"] for row in rows} == {"answered"}
    part = page(limit=2)
    parts = part.content
    for _ in range(2):
        part = page(limit=2, cursor=part.headers["next-cursor"])
        parts += part.content
    assert parts == whole.content == page().content
    assert "link" not in part.headers
    cursor = part.headers["next-cursor"]
    nothing = page(limit=2, cursor=cursor)
    assert (nothing.content, nothing.headers["next-cursor"]) == (b"", cursor)
    safe = list(csv.DictReader(io.StringIO(page(format="spreadsheet").text, newline="")))
    assert (safe[0]["caller"], safe[3]["callee"]) == (f"'{ANNA}", "'=1+3")
    lines = page(format="ndjson").text.splitlines()
    assert [json.loads(line)["gateway_call_id"] for line in lines] == [f"x{number}" for number in range(5)]
    first = caller.get(page(limit=2).headers["link"].partition(">")[0][1:])
    assert first.content.count(b"\r\n") == 2
    assert page(ended_before=rows[2]["settled_at"]).content == b"".join(whole.content.splitlines(keepends=True)[:3])
    assert "complete-until" in whole.headers
