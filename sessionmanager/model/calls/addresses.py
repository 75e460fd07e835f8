"""Under which text a caller or callee is searched for. Pure, and it never guesses (decision 0032).

A number is E.164 only where it says so itself by its `+` (ITU-T E.164: at most 15 digits, the first 1 to 9); no country
is ever added. What is shown and billed stays as it was given.

| given | searched as |
|---|---|
| `+1 (202) 555-0123`, `tel:+1-202-555-0123`, `sip:+12025550123@gw.example.com;user=phone` | `+12025550123` |
| `"Alice" <SIP:alice:secret@Example.COM:5060;transport=tcp>;tag=1928` | `sip:alice@example.com:5060` |
| `1001`, `client:alice`, any other text | itself, without blanks around it |
| `anonymous`, `restricted`, `unavailable`, `unknown`, nothing | nobody |
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

NOBODY: Final = frozenset(("", "anonymous", "restricted", "unavailable", "unknown", "private", "withheld"))
"""Words in the place of a caller who hides. Nobody is found by them: two of those are not the same person."""
SPELLED: Final = frozenset(("+266696687", "+8656696", "+7378742833", "+2562533", "+86282452253"))
"""The same on the keys of a telephone, as some carriers send it (ANONYMOUS and its kin)."""
_e164: Final = re.compile(r"\+[1-9][0-9]{1,14}")
_separators: Final = re.compile(r"[ ().\-/]")
_name_addr: Final = re.compile(r"[^<]*<([^<>]*)>.*", re.DOTALL)
_uri: Final = re.compile(r"(sips?|tel):(.*)", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=4096)
def searched(text: str | None) -> str | None:
    """The form under which an address is found, or None for somebody who hides."""
    if text is None:
        return None
    bare = text.strip()
    named = _name_addr.fullmatch(bare)
    if named is not None:
        bare = named[1].strip()
    uri = _uri.fullmatch(bare)
    found = _of_uri(uri[1].lower(), uri[2]) if uri is not None else _number(bare) or bare
    hidden = found.lower() in NOBODY or found in SPELLED
    return None if hidden else found


def _number(text: str) -> str | None:
    """The E.164 number that a text certainly is, else None."""
    if not text.startswith("+"):
        return None
    digits = _separators.sub("", text)
    return digits if _e164.fullmatch(digits) else None


def _of_uri(scheme: str, rest: str) -> str:
    """A `sip`, `sips` or `tel` URI (RFC 3261 section 19.1.4, RFC 3966): parameters and password are left out, the host
    has no case, the user part has; `%` escapes are the characters that they stand for."""
    address = rest.partition("?")[0]
    user, at, host = address.rpartition("@") if scheme != "tel" else (address, "", "")
    if not at and scheme != "tel":
        user, host = "", address
    user = unquote(user.partition(":")[0] if scheme != "tel" else user)
    number = _number(user.partition(";")[0])
    if number is not None:
        return number
    if scheme == "tel":
        return user.partition(";")[0]
    host = host.partition(";")[0].strip().lower()
    if user.lower() in NOBODY and user:
        return user
    if host.endswith("anonymous.invalid"):  # RFC 3323 section 4.1: whoever hides is at this host
        return "anonymous"
    return f"{scheme}:{user}@{host}" if user else f"{scheme}:{host}"
