"""Dialogue to measure with: varied as speech on a telephone is, so that sizes and compression mean something."""

from __future__ import annotations

import random
from typing import Any, Final

_GREETINGS: Final = ("Hello", "Hi", "Good morning", "Good afternoon", "Yes, hi", "Hello there", "Good evening")
_PEOPLE: Final = ("Mrs Okafor", "Mr Lindqvist", "Dr Banerjee", "Ms Alvarez", "Mr Whitfield", "Mrs Tanaka", "Mr Novak")
_THINGS: Final = (
    *("my broadband line", "the invoice from last month", "a delivery", "my booking", "the kitchen appliance"),
    *("an insurance claim", "my mobile contract", "the heating system", "a refund", "the flight to Lisbon"),
    *("a prescription", "my bank card", "the parking permit", "our conference room", "the electricity meter"),
)
_TROUBLES: Final = (
    *("it has not worked since the thunderstorm on the weekend", "nobody has called me back although I was promised"),
    *("the amount is not what we agreed on the phone", "the parcel says delivered but there is nothing at the door"),
    *("the app shows an error every time that I try to log in", "it makes a noise like a kettle when I turn it on"),
    *("I was charged twice and my account is overdrawn now", "the engineer came, looked at it for a minute and left"),
    *("I need to move it to another day because of a funeral", "the confirmation has the wrong name and address on it"),
)
_ASKS: Final = (
    *("Could you tell me what happens next?", "Can somebody come out before noon?", "How long is that going to take?"),
    *("Is there any way to speed it up?", "Do I have to send it back myself?", "Can I talk to a person about it?"),
    *("What do you need from me?", "Would you mind repeating the number?", "Can you send me that in writing?"),
)
_OFFERS: Final = (
    *("I can see the order on my screen now", "let me check that with the warehouse", "I have opened a case for you"),
    *("I am sorry that you had to wait so long", "I can offer you an appointment", "the refund is on its way"),
    *("I have corrected the address", "a technician is in your area", "I will stay on the line while it restarts"),
)
_FILLERS: Final = ("well", "you know", "actually", "to be honest", "as I said", "um", "right", "okay so", "anyway")
_TOOLS: Final = ("find_order", "get_invoice", "book_appointment", "check_line", "issue_refund", "look_up_customer")


class Dialogue:
    """An endless call. The same seed says the same."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = random.Random(seed)
        self._turn = 0
        self._open: str | None = None

    def drafts(self, count: int) -> list[dict[str, Any]]:
        """The next entries, as a client sends them."""
        return [self._draft() for _ in range(count)]

    def _draft(self) -> dict[str, Any]:
        rng = self._rng
        if self._open is not None:
            call_id, self._open = self._open, None
            output = {
                "status": rng.choice(("shipped", "open", "paid", "scheduled", "unknown")),
                "reference": f"{rng.choice('ABCDEFGHK')}{rng.randrange(10**7):07d}",
                "amount": round(rng.uniform(3, 900), 2),
                "when": f"2026-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}T{rng.randrange(8, 18):02d}:30:00Z",
            }
            return {"type": "function_call_output", "call_id": call_id, "output": output}
        self._turn += 1
        if rng.random() < 0.08:
            self._open = f"call_{rng.getrandbits(64):016x}"
            arguments = {"customer": rng.randrange(10**6), "subject": rng.choice(_THINGS), "limit": rng.randrange(1, 9)}
            return {
                "type": "function_call",
                "call_id": self._open,
                "name": rng.choice(_TOOLS),
                "arguments": arguments,
            }
        if self._turn % 2:
            return {"type": "message", "role": "user", "content": self._caller()}
        return {"type": "message", "role": "assistant", "content": self._bot()}

    def _caller(self) -> str:
        rng = self._rng
        said = [f"{rng.choice(_FILLERS).capitalize()}, it is about {rng.choice(_THINGS)}, {rng.choice(_TROUBLES)}."]
        if rng.random() < 0.3:
            said.insert(0, f"{rng.choice(_GREETINGS)}, this is {rng.choice(_PEOPLE)}.")
        if rng.random() < 0.6:
            said.append(rng.choice(_ASKS))
        if rng.random() < 0.3:
            said.append(f"The number is {rng.randrange(10**8):08d}, {rng.choice(_FILLERS)}.")
        return " ".join(said)

    def _bot(self) -> str:
        rng = self._rng
        said = [f"Thank you, {rng.choice(_PEOPLE)}, {rng.choice(_OFFERS)}."]
        if rng.random() < 0.7:
            said.append(f"About {rng.choice(_THINGS)}: {rng.choice(_OFFERS)}, on the {rng.randrange(1, 29)}th at"
                        f" {rng.randrange(8, 18)}:{rng.randrange(60):02d}.")  # fmt: skip
        if rng.random() < 0.5:
            said.append(rng.choice(_ASKS))
        return " ".join(said)
