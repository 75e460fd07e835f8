"""Every kind of forged token by its name, for a verifier with `forge.SECRET`, `ISSUER` and `AUDIENCE` at `NOW`."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any

from tests.support.forge import AUDIENCE, ISSUER, NOW, SECRET, as_bytes, claims, encode, head, hs, token, with_text

DAY = 86_400


def unsigned() -> Iterator[tuple[str, str]]:
    for name in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "noNE",
        "none ",
        " none",
        "none\x00",
        "\uff4eone",
        "null",
        "HS256none",
    ):
        for kind, sign in (("no", lambda _: b""), ("empty-key", hs(b"")), ("right", hs())):
            yield f"alg-{name!r}-with-{kind}-signature", token(header=head(alg=name), sign=sign)
    for text in (
        "",
        ".",
        "..",
        "...",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "=.=.=",
        "null",
        "{}",
        "\x00",
        "\ud800",
        "ü.ü.ü",
    ):
        yield f"text-{text!r}", text


def algorithms() -> Iterator[tuple[str, str]]:
    for name in ("HS384", "HS512", "RS256", "RS512", "PS256", "ES256", "ES256K", "EdDSA", "Ed25519", "dir", "A256GCM"):
        yield f"alg-{name}", token(header=head(alg=name))
    for name in ("hs256", "Hs256", "HS256 ", " HS256", "HS256\n", "HS2560", "HS25", "", "HMAC", "sha256"):
        yield f"alg-{name!r}", token(header=head(alg=name))
    for value in (None, 256, True, ["HS256"], {"HS256": 1}, [], ..., 1.5):
        yield f"alg-{value!r}", token(header=head(alg=value))
    yield "alg-HS384-signed-so", token(header=head(alg="HS384"), sign=hs(digest="sha384"))
    yield "alg-HS512-signed-so", token(header=head(alg="HS512"), sign=hs(digest="sha512"))
    yield "alg-HS256-signed-by-sha512", token(sign=hs(digest="sha512"))
    yield "alg-HS256-signed-by-md5", token(sign=hs(digest="md5"))


def signatures() -> Iterator[tuple[str, str]]:
    good = token()
    signed, _, text = good.rpartition(".")
    raw = urlsafe_b64decode(text + "=")
    wrong_keys = {
        "another": b"A" * 40,
        "empty": b"",
        "secret": b"secret",
        "cut": SECRET[:-1],
        "longer": SECRET + b"\n",
        "zero": bytes(32),
        "upper": SECRET.upper(),
    }
    for name, key in wrong_keys.items():
        yield f"key-{name}", token(sign=hs(key))
    changed = {
        "missing": b"",
        "zero": bytes(32),
        "ones": b"\xff" * 32,
        "one-byte": raw[:1],
        "cut": raw[:-1],
        "longer": raw + b"\x00",
        "twice": raw + raw,
        "first-bit": bytes([raw[0] ^ 1]) + raw[1:],
        "last-bit": raw[:-1] + bytes([raw[-1] ^ 1]),
        "reversed": raw[::-1],
        "hex": raw.hex().encode(),
    }
    for name, data in changed.items():
        yield f"signature-{name}", f"{signed}.{encode(data)}"
    yield "signature-of-other-claims", f"{token(claims(sub='bob')).rpartition('.')[0]}.{text}"
    yield "signature-of-the-payload-alone", token(sign=lambda data: hs()(data.split(b".")[1]))
    yield "signature-stripped-with-its-dot", signed
    yield "claims-raised-after-signing", f"{token(claims(roles=['admin'])).rpartition('.')[0]}.{text}"
    yield "header-changed-after-signing", f"{encode(as_bytes({'alg': 'HS256'}))}.{signed.split('.')[1]}.{text}"


def headers() -> Iterator[tuple[str, str]]:
    references: dict[str, Any] = {
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "jwk": {"kty": "oct", "k": encode(b"A" * 32)},
        "x5c": ["MIIB"],
    }
    for name, value in references.items():
        yield f"{name}-signed-by-a-forger", token(header=head(**{name: value}), sign=hs(b"A" * 32))
        yield f"{name}-signed-by-the-secret", token(header=head(**{name: value}))
    key_ids: dict[str, Any] = {
        "path": "../../../../dev/null",
        "absolute-path": "/dev/null",
        "sql": "x' UNION SELECT 'key'--",
        "operator": {"$ne": None},
        "url": "https://evil.example/key",
        "file-url": "file:///etc/passwd",
        "command": "|id",
        "nul": "a\x00b",
        "line-feed": "a\n",
        "long": "k" * 5_000,
        "empty": "",
        "null": None,
        "number": 1,
        "list": ["a"],
        "surrogate": "\ud800",
    }
    for name, value in key_ids.items():
        yield f"kid-{name}", token(header=head(kid=value))
        yield f"kid-{name}-signed-by-nothing", token(header=head(kid=value), sign=hs(b""))
    yield "kid-20-kB", token(header=head(kid="k" * 20_000))
    for name, value in {"exp": ["exp"], "b64": ["b64"], "empty": [], "text": "exp", "null": None}.items():
        yield f"crit-{name}", token(header=head(crit=value))
    yield "b64-false", token(header=head(b64=False))
    yield "b64-false-and-crit", token(header=head(b64=False, crit=["b64"]))
    for kind in (
        "JWE",
        "JOSE",
        "at",
        "jwt+at",
        "refresh+jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "id_token",
        "",
    ):
        yield f"typ-{kind!r}", token(header=head(typ=kind))
    for value in (None, 1, True, ["JWT"], {"JWT": 1}, "JWT ", "JWT\x00"):
        yield f"typ-{value!r}", token(header=head(typ=value))


def times() -> Iterator[tuple[str, str]]:
    far = {"text": '"4000000000"', "bool": "true", "null": "null", "list": "[4000000000]", "object": "{}"}
    odd = {"nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity", "1e400": "1e400", "negative": "-1"}
    big = {
        "10^30": "1" + "0" * 30,
        "5000-digits": "9" * 5_000,
        "1e308": "1e308",
        "int64": str(2**63),
        "hex": "0xffffffff",
    }
    for claim in ("exp", "iat", "nbf"):
        for name, text in (far | odd | big).items():
            yield f"{claim}-{name}", token(with_text(claims(), claim, text))
    for claim in ("exp", "iat"):
        yield f"{claim}-missing", token(claims(**{claim: ...}))
    yield "exp-past-the-leeway", token(claims(exp=NOW - 5))
    yield "exp-a-fraction-past-the-leeway", token(claims(exp=NOW - 5.001))
    yield "exp-zero", token(claims(exp=0))
    yield "exp-long-ago", token(claims(exp=NOW - 400 * DAY, iat=NOW - 401 * DAY))
    yield "exp-before-iat", token(claims(iat=NOW + 2, exp=NOW + 1))
    yield "exp-beyond-a-year", token(claims(exp=NOW + 367 * DAY))
    yield "iat-in-the-future", token(claims(iat=NOW + 5.5))
    yield "iat-in-the-future-behind-an-old-nbf", token(claims(iat=NOW + 100, nbf=NOW - 1))
    yield "iat-in-milliseconds", token(claims(iat=NOW * 1000))
    yield "nbf-in-the-future", token(claims(nbf=NOW + 5.5))
    yield "nbf-after-exp", token(claims(nbf=NOW + 700))


def parties() -> Iterator[tuple[str, str]]:
    issuers: dict[str, Any] = {
        "missing": ...,
        "null": None,
        "prefix": ISSUER[:-1],
        "longer": ISSUER + "x",
        "substring": ISSUER[8:-1],
        "list": [ISSUER],
        "case": ISSUER.upper(),
        "space": ISSUER + " ",
        "userinfo": "https://id.example.com@evil.example/",
        "number": 1,
        "object": {ISSUER: 1},
        "empty": "",
    }
    for name, value in issuers.items():
        yield f"iss-{name}", token(claims(iss=value))
    audiences: dict[str, Any] = {
        "missing": ...,
        "null": None,
        "prefix": AUDIENCE[:-1],
        "longer": AUDIENCE + "2",
        "substring": AUDIENCE[2:6],
        "one-letter": "s",
        "case": AUDIENCE.upper(),
        "space": AUDIENCE + " ",
        "others": ["a", "b"],
        "joined": f"other,{AUDIENCE}",
        "empty-list": [],
        "empty": "",
        "number": 1,
        "object": {AUDIENCE: 1},
        "nested-list": [[AUDIENCE]],
        "mixed-list": [AUDIENCE, 1],
        "long-list": [AUDIENCE] * 100,
    }
    for name, value in audiences.items():
        yield f"aud-{name}", token(claims(aud=value))


def identities() -> Iterator[tuple[str, str]]:
    texts: dict[str, Any] = {
        "empty": "",
        "null": None,
        "number": 7,
        "bool": True,
        "list": ["a"],
        "object": {"$ne": ""},
        "256-characters": "a" * 256,
        "nul": "a\x00",
        "line-feed": "a\nb",
        "escape": "a\x1b[2J",
        "delete": "a\x7f",
        "c1": "a\x9b",
        "line-separator": "a\u2028",
        "surrogate": "a\ud800",
    }
    for name, value in texts.items():
        yield f"sub-{name}", token(claims(sub=value))
        yield f"sid-{name}", token(claims(sid=value))
        yield f"jti-{name}", token(claims(jti=value))
        yield f"pid-{name}", token(claims(sid="call-1", pid=value))
    yield "sub-missing", token(claims(sub=...))
    yield "pid-without-sid", token(claims(pid="p1"))
    tenants: dict[str, Any] = {
        "missing": ...,
        "null": None,
        "empty": "",
        "65-characters": "a" * 65,
        "number": 1,
        "list": ["acme"],
        "object": {"$gt": ""},
        "path": "../acme",
        "slash": "a/b",
        "space": "a b",
        "line-feed": "acme\n",
        "nul": "acme\x00",
        "dot-first": ".acme",
        "dash-first": "-acme",
        "colon": "4:acme",
        "letter-beyond-ascii": "ácme",
        "digit-beyond-ascii": "acme٣",
        "star-star": "**",
        "star-prefix": "*acme",
        "star-for-an-agent": "*",
    }
    for name, value in tenants.items():
        yield f"tenant-{name}", token(claims(tenant=value))
    yield "tenant-star-bound-to-a-session", token(claims(tenant="*", roles=["admin"], sid="call-1"))


def roles() -> Iterator[tuple[str, str]]:
    wrong: dict[str, Any] = {
        "missing": ...,
        "null": None,
        "text": "admin",
        "empty-list": [],
        "empty-text": [""],
        "unknown": ["root"],
        "one-unknown": ["agent", "root"],
        "case": ["Admin"],
        "space": ["admin "],
        "number": [1],
        "bool": [True],
        "null-in-list": [None],
        "nested": [["admin"]],
        "object": {"admin": True},
        "object-in-list": [{"admin": 1}],
        "joined": ["admin,agent"],
        "star": ["*"],
        "hundred": ["agent"] * 100,
    }
    for name, value in wrong.items():
        yield f"roles-{name}", token(claims(roles=value))


def encodings() -> Iterator[tuple[str, str]]:
    good = token()
    parts = good.split(".")
    for name, text in {
        "space-before": " " + good,
        "space-after": good + " ",
        "line-feed-after": good + "\n",
        "nul-after": good + "\x00",
        "scheme-inside": "Bearer " + good,
        "comma-after": good + ",",
        "fourth-segment": good + ".e30",
        "dot-after": good + ".",
        "dot-before": "." + good,
        "twice": f"{good}.{good}",
        "jwe-shape": ".".join((*parts, "e30", "e30")),
        "huge": good + "A" * 8_192,
        "megabyte": "a" * 2**20,
        "dots": "." * 8_000,
        "padded-signature": good + "=",
    }.items():
        yield f"text-{name}", text
    yield "over-8-kB-and-signed", token(claims(filler="x" * 9_000))
    mended = {
        "padded-header": lambda t: t.replace(".", "==.", 1),
        "padded-payload": lambda t: t + "==",
        "percent": lambda t: t + "%3D",
        "line-feed-inside": lambda t: t[:10] + "\n" + t[10:],
        "space-inside": lambda t: t[:10] + " " + t[10:],
        "plus-inside": lambda t: t[:-4] + "++++",
        "slash-inside": lambda t: t[:-4] + "////",
        "letter-beyond-ascii": lambda t: t[:-4] + "éééé",
        "one-letter-more": lambda t: t + "A" * ((1 - len(t.split(".")[1])) % 4),
        "empty-payload": lambda t: t.split(".")[0] + ".",
        "empty-header": lambda t: "." + t.split(".")[1],
    }
    for name, mend in mended.items():
        yield f"base64-{name}", token(mend=mend)
    yield "base64-other-spelling-of-the-signature", other_spelling(good)
    yield "base64-other-spelling-of-the-payload", token(as_bytes(claims()) + b" " * 2, mend=spell_last_segment)


def texts() -> Iterator[tuple[str, str]]:
    body, top = as_bytes(claims()), as_bytes(head())
    doubled = {
        "alg": b'{"alg":"none","alg":"HS256"}',
        "alg-later": b'{"alg":"HS256","alg":"none"}',
        "typ": b'{"alg":"HS256","typ":"JWT","typ":"JWT"}',
        "escaped-alg": b'{"alg":"HS256","\\u0061lg":"none"}',
    }
    for name, raw in doubled.items():
        yield f"header-doubled-{name}", token(header=raw)
    for name in ("exp", "sub", "tenant", "roles", "sid"):
        first = json.dumps({name: "x"})[1:-1].encode()
        yield f"payload-doubled-{name}", token(b"{" + first + b"," + first + b"," + body[1:])
    yield "payload-doubled-deep", token(body[:-1] + b', "x": {"a": 1, "a": 2}}')
    marked = {
        "bom": b"\xef\xbb\xbf%s",
        "trailing": b"%s{}",
        "comma": b"%s,",
        "comment": b"/**/%s",
        "array": b"[%s]",
        "vertical-tab": b"\x0b%s",
        "nul": b"%s\x00",
    }
    for name, form in marked.items():
        yield f"header-{name}", token(header=form % top)
        yield f"payload-{name}", token(form % body)
    for name, codec in {"utf-16": "utf-16", "utf-16-le": "utf-16-le", "utf-32": "utf-32"}.items():
        yield f"header-{name}", token(header=top.decode().encode(codec))
        yield f"payload-{name}", token(body.decode().encode(codec))
    plain = {
        "null": b"null",
        "text": b'"x"',
        "number": b"1",
        "empty-object": b"{}",
        "cut": body[:-1],
        "bad-utf-8": body[:-1] + b', "x": "\xff"}',
        "overlong-utf-8": body[:-1] + b', "x": "\xc0\xaf"}',
        "single-quotes": body.replace(b'"', b"'"),
        "control-in-text": body[:-1] + b', "x": "\x01"}',
        "deep-array": body[:-1] + b', "x": ' + b"[" * 2_500 + b"]" * 2_500 + b"}",
        "deep-open": b"[" * 5_000,
        "nan-elsewhere": body[:-1] + b', "x": NaN}',
    }
    for name, raw in plain.items():
        yield f"payload-{name}", token(raw)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def other_spelling(text: str) -> str:
    """The last letter changed in bits that belong to no byte."""
    assert len(text.rpartition(".")[2]) % 4 in (2, 3), "nothing to change"
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) ^ 1]


def spell_last_segment(signed: str) -> str:
    start, _, payload = signed.rpartition(".")
    raw = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    padded = raw + b" " * (-(len(raw) + 1) % 3)
    return f"{start}.{other_spelling('.' + encode(padded))[1:]}"


GENERATORS = (*(unsigned, algorithms, signatures, headers, times, parties, identities, roles, encodings, texts),)
FORGED = {name: text for generator in GENERATORS for name, text in generator()}
REASONS = {
    unsigned: {"algorithm", "shape", "base64"},
    algorithms: {"algorithm", "signature"},
    signatures: {"signature", "base64", "shape"},
    headers: {"key-reference", "key-id", "size", "critical", "type"},
    times: {"time", "json", "expired", "early", "lifetime"},
    parties: {"issuer", "audience"},
    identities: {"subject", "tenant", "binding"},
    roles: {"roles"},
    encodings: {"base64", "shape", "size"},
    texts: {"json", "time"},
}
