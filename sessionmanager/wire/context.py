"""`GET /sessions/{id}/context`: its parameters and its answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType, field

from sessionmanager.wire.answers import Entry, FunctionCalls, ResumeAnswer
from sessionmanager.wire.requests import ModelFamily
from sessionmanager.words import TierName

CONTEXT_ENTRIES: Final = 50
CONTEXT_ENTRIES_MAX: Final = 500
CONTEXT_TOKENS_MAX: Final = 1_000_000
"""Some 3 MB of JSON."""


class GetContext(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`for`: whose API the window is for. `max_entries`: of the log; `max_tokens`: by the service's estimate."""

    for_: ModelFamily = field(default="raw", name="for")
    max_entries: Annotated[int, Meta(ge=1, le=CONTEXT_ENTRIES_MAX)] = CONTEXT_ENTRIES
    max_tokens: Annotated[int, Meta(ge=1, le=CONTEXT_TOKENS_MAX)] = CONTEXT_TOKENS_MAX


class SummedUp(Struct, frozen=True, kw_only=True):
    """A summary in the window, and which entries it stands for."""

    seq: int
    from_seq: int
    to_seq: int


class ContextIncluded(Struct, frozen=True, kw_only=True):
    """What the window stands for: all entries from `from_seq` to `to_seq`. Each of them is in it, or covered by one of
    its `summaries`, or says nothing to a model, or is told in `omitted`.

    `entries`: how many it holds. `bytes`: of the window's JSON. `tokens_estimate`: a third of them.
    """

    from_seq: int
    to_seq: int
    entries: int
    bytes: int
    tokens_estimate: int
    summaries: tuple[SummedUp, ...]


class ContextOmitted(Struct, frozen=True, kw_only=True):
    """What the window lacks. `count`: entries before `from_seq`; `cursor` fetches them from
    `GET /sessions/{id}/entries`, newest first. `outputs`: seqs of outputs whose call was not found. `system`: system
    entries that did not fit. `unavailable`: the tier that older entries lie in, if it did not answer.
    """

    count: int
    cursor: str | None
    outputs: tuple[int, ...]
    system: int
    unavailable: TierName | None


class ContextAnswer(Struct, frozen=True, kw_only=True):
    """A window: `messages` (OpenAI, Anthropic), `contents` (Gemini), `items` (realtime) or `entries` (raw).

    `system`: only where the API takes it apart. `renamed`: call ids that the API does not take, by what stands for
    them. `stale`: of a copy that warm could not confirm.
    """

    for_: ModelFamily = field(name="for")
    version: int
    function_calls: FunctionCalls
    included: ContextIncluded
    omitted: ContextOmitted
    renamed: dict[str, str]
    system: str | UnsetType = UNSET
    messages: tuple[dict[str, Any], ...] | UnsetType = UNSET
    contents: tuple[dict[str, Any], ...] | UnsetType = UNSET
    items: tuple[dict[str, Any], ...] | UnsetType = UNSET
    entries: tuple[Entry, ...] | UnsetType = UNSET
    stale: bool | UnsetType = UNSET


class ResumeWithContext(ResumeAnswer, frozen=True, kw_only=True):
    """What a resume answers; `context` where it named a model family."""

    context: ContextAnswer | UnsetType = UNSET
