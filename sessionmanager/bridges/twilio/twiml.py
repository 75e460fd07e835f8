"""TwiML: what Twilio does next with a call. Pure text, every value escaped.

Source: Twilio, "TwiML for Programmable Voice": Connect, Stream, ConversationRelay, Dial, Hangup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape, quoteattr

PARAMETER_CHARS_MAX: Final = 499
"""Name and value of a `<Parameter>` together stay under 500."""
HANG_UP: Final = "<Response><Hangup /></Response>"
BUSY: Final = '<Response><Reject reason="busy" /></Response>'
NOTHING: Final = "<Response />"
MEDIA_TYPE: Final = "application/xml"

Attributes = Mapping[str, str | None]


def connect_stream(
    url: str, *, action: str, name: str | None, status_callback: str | None, parameters: Mapping[str, str]
) -> str:
    """A bidirectional stream. url: `wss`, without a query. What follows it is asked for at `action` once our side
    closes the socket, or the caller hangs up."""
    stream: Attributes = {"name": name, "url": url, "statusCallback": status_callback}
    return _connect(action, f"<Stream{_written(stream)}>{_parameters(parameters)}</Stream>")


def connect_relay(url: str, *, action: str, attributes: Attributes, parameters: Mapping[str, str]) -> str:
    """A ConversationRelay. attributes: of the element beside its `url`, by Twilio's names."""
    written = _written({"url": url, **attributes})
    return _connect(action, f"<ConversationRelay{written}>{_parameters(parameters)}</ConversationRelay>")


def dial(target: str) -> str:
    """Hand the caller over to a number or a SIP address."""
    inner = f"<Sip>{escape(target)}</Sip>" if target.lower().startswith(("sip:", "sips:")) else escape(target)
    return f"<Response><Dial>{inner}</Dial></Response>"


def _connect(action: str, inner: str) -> str:
    return f"<Response><Connect{_written({'action': action})}>{inner}</Connect></Response>"


def _parameters(parameters: Mapping[str, str]) -> str:
    """Those that Twilio would take; a longer one would cost the whole answer."""
    return "".join(
        f"<Parameter{_written({'name': name, 'value': value})} />"
        for name, value in parameters.items()
        if len(name) + len(value) <= PARAMETER_CHARS_MAX
    )


def _written(attributes: Attributes) -> str:
    return "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value is not None)
