"""What a plainer design gets wrong about participants and the floor is planted, and the simulator must find it."""

from __future__ import annotations

from typing import Any, Final

import pytest
from msgspec.structs import replace

from sessionmanager.core import decision
from sessionmanager.core import participants as people
from sessionmanager.model import decide, fold, participants
from sessionmanager.model import floor as floors
from sessionmanager.model.floor import Floor
from sessionmanager.model.head import Head, Participant
from sessionmanager.words import Instant
from tests.support.left_out import share
from tests.support.sim.network import Odds, Weather
from tests.support.sim.planting import Bug, hunt

pytestmark = pytest.mark.slow


def numbers_begin_anew(patch: pytest.MonkeyPatch) -> None:
    """A suspend forgets the floor with everybody who had it: the next one gets number 1 again."""

    def emptied(floor: Floor | None) -> Floor | None:
        return None if floor is None else Floor(required=floor.required)

    patch.setattr(fold, "emptied", emptied)


def a_queue_that_gives_no_number(patch: pytest.MonkeyPatch) -> None:
    """Who waited gets the floor with the number of the one before."""
    real = floors._given

    def given(floor: Floor, to: floors.Waiting, now: Instant) -> Floor:
        after = real(floor, to, now)
        return replace(after, number=max(floor.number, 1)) if to in floor.queue or floor.holder is None else after

    patch.setattr(floors, "_given", given)


def the_token_is_enough(patch: pytest.MonkeyPatch) -> None:
    """Words are let in by who says them: the number that they carry is not held against the floor."""

    def check(floor: Floor | None, number: int | None, now: Instant, *, speaks: bool) -> None:
        """Nothing is looked at."""

    patch.setattr(decide, "check_number", check)


def the_number_is_enough(patch: pytest.MonkeyPatch) -> None:
    """The newest number is good for ever: nobody looks at the lease, since nobody else has claimed yet."""
    real = floors.check_number

    def check(floor: Floor | None, number: int | None, now: Instant, *, speaks: bool) -> None:
        if floor is not None and floor.holder is not None and number == floor.number:
            return
        real(floor, number, now, speaks=speaks)

    patch.setattr(decide, "check_number", check)


def checked_at_the_door(patch: pytest.MonkeyPatch) -> None:
    """A token is looked at when the request comes in, and not again in the compare-and-set."""

    def present(head: Head, pid: str, epoch: int) -> None:
        """Nothing is looked at."""

    patch.setattr(decision, "require_present", present)


def news_is_answered_and_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(people, "_renewal", lambda head, person, now: None)


def joined_by_whoever_asks(patch: pytest.MonkeyPatch) -> None:
    """The identity is looked for among the present alone: who left and comes back is somebody else."""
    real = participants.join

    def join(head: Head, wanted: participants.Join, now: Instant) -> Any:
        here = tuple(person for person in head.detail.participants if person.status != "left")
        return real(replace(head, detail=replace(head.detail, participants=here)), wanted, now)

    patch.setattr(participants, "join", join)


def back_under_the_same_epoch(patch: pytest.MonkeyPatch) -> None:
    """Who left and comes back keeps its epoch: the token that was taken from it is good again."""
    real = participants.join

    def join(head: Head, wanted: participants.Join, now: Instant) -> Any:
        drafts, person = real(head, wanted, now)
        known = next((each for each in head.detail.participants if each.id == person.id), None)
        if not drafts or known is None or known.epoch == person.epoch:
            return drafts, person
        same: Participant = replace(person, epoch=known.epoch)
        return (participants.draft("reattached", same),), same

    patch.setattr(participants, "join", join)


def turned_away_by_an_old_copy(patch: pytest.MonkeyPatch) -> None:
    """A token is refused on what hot says: a copy from before its participant joined."""

    async def require(self: Any, key: Any, pid: str, epoch: int) -> None:
        participants.require_present((await self._reads.view(key, lines=0)).stored.head, pid, epoch)

    patch.setattr(people.Participants, "require_bound", require)


STAGE: Final = ("stage",)
LEAVING: Final = {"leave": 6.0, "say": 4.0, "claim": 4.0, "suspend": 0.1, "archive": 0.0, "end": 0.0, "erase": 0.0}
JOINING: Final = {**LEAVING, "join": 5.0, "leave": 4.0, "get": 4.0}
SLOW: Final = Weather({"hot": Odds(slow=0.1), "warm": Odds(slow=0.15)})
"""Nothing fails; writes wait so long that what was true at the door is no longer true when they land."""
BUGS: Final[dict[str, Bug]] = {
    "numbers-begin-anew-after-a-suspend": Bug({"floor_numbers_grow"}, plant=numbers_begin_anew, kinds=STAGE),
    "the-queue-gives-no-number": Bug(
        {"floor_numbers_grow", "old_numbers_never_speak"}, plant=a_queue_that_gives_no_number, kinds=STAGE
    ),
    "an-old-number-speaks": Bug({"old_numbers_never_speak"}, plant=the_token_is_enough, kinds=STAGE),
    "the-lease-of-the-floor-is-not-looked-at": Bug(
        {"old_numbers_never_speak"}, plant=the_number_is_enough, kinds=STAGE
    ),
    "the-removed-write-on": Bug(
        {"the_removed_stay_removed"},
        plant=checked_at_the_door,
        kinds=STAGE,
        play={"likes": LEAVING, "weather": SLOW},
    ),
    "news-that-is-not-written": Bug({"news_is_heard"}, plant=news_is_answered_and_not_written, kinds=STAGE),
    "who-comes-back-is-somebody-else": Bug(
        {"one_identity_is_one_participant"}, plant=joined_by_whoever_asks, kinds=STAGE
    ),
    "a-token-revives": Bug({"the_removed_stay_removed"}, plant=back_under_the_same_epoch, kinds=STAGE),
    "turned-away-by-an-old-copy": Bug(
        {"nobody_is_turned_away_for_nothing"},
        plant=turned_away_by_an_old_copy,
        kinds=("cut",),
        play={"sessions": 1, "clients": 4, "operations": 40, "rush": True, "eviction_seconds": 0.0, "likes": JOINING},
    ),
}


LONG_HUNTS: Final = frozenset(("the-removed-write-on",))
"""Bugs that show in few seeds. Their rules catch others, too."""


@pytest.mark.parametrize("name", share(BUGS, quick=BUGS.keys() - LONG_HUNTS))
def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hunt(name, BUGS[name], monkeypatch)
