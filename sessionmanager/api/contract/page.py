"""The document as one HTML page and its style sheet: no script, no asset from outside; what it says is escaped."""

from __future__ import annotations

import json
import re
from html import escape
from typing import Any, Final

_code = re.compile(r"`([^`]+)`")
_name = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

STYLE: Final = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 3rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .5rem 0; }
section { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; margin: 1rem 0; }
h3 { margin: .25rem 0; font-size: 1.05rem; overflow-wrap: anywhere; }
.method { display: inline-block; min-width: 5rem; font-weight: 700; }
.open { color: #767676; font-size: .85em; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-top: 1px solid var(--soft); }
th, td:nth-child(2) { white-space: nowrap; font-weight: 600; }
td:nth-child(2) { font-weight: 400; color: #767676; }
td { overflow-wrap: anywhere; }
nav ul { columns: 24rem; list-style: none; padding: 0; }
nav li { break-inside: avoid; overflow-wrap: anywhere; }
a { color: inherit; text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible { outline: 2px solid; }
@media (max-width: 40rem) {
  th, td { display: block; border: 0; padding: 0; white-space: normal; }
  tr { display: block; border-top: 1px solid var(--soft); padding: .3rem 0; }
}
"""


def render_page(document: dict[str, Any]) -> str:
    """The document as one HTML page; everything that comes from it is escaped."""
    info = document["info"]
    types = frozenset(document["components"]["schemas"])
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} {escape(info['version'])}</title>",
        '<link rel="stylesheet" href="/docs/style.css"></head><body>',
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_text(info['description'])}</p>",
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>. At the end, all '
        '<a href="#types">types</a>.</p>',
        _contents_of(document),
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    parts.append(_operation(method, path, operation, types))
    parts.append('<h2 id="types">Types</h2>')
    parts += [_schema(name, schema, types) for name, schema in document["components"]["schemas"].items()]
    parts.append("</body></html>")
    return "\n".join(parts)


def _contents_of(document: dict[str, Any]) -> str:
    items = [
        f'<li><span class="method">{method.upper()}</span> '
        f'<a href="#{escape(operation["operationId"])}"><code>{escape(path)}</code></a></li>'
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'


def _operation(method: str, path: str, operation: dict[str, Any], types: frozenset[str]) -> str:
    note = "" if "security" not in operation else ' <span class="open">no token</span>'
    parts = [
        f'<section id="{escape(operation["operationId"])}">',
        f'<h3><span class="method">{method.upper()}</span> <code>{escape(path)}</code>{note}</h3>',
        f"<p>{_text(operation['summary'])}</p>",
    ]
    if "description" in operation:
        parts.append(f"<p>{_text(operation['description'])}</p>")
    rows = [(p["name"], p["in"], _said(p["schema"]), p.get("description", "")) for p in operation.get("parameters", [])]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(("body", media, _said(content["schema"]), ""))
    parts.append(_table(rows, types))
    parts += [
        f"<pre>{escape(json.dumps(example['value'], ensure_ascii=False))}</pre>"
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for example in content.get("examples", {}).values()
    ]
    answers = [
        (status, ", ".join(answer.get("content", {})), _contents(answer), answer["description"])
        for status, answer in operation["responses"].items()
    ]
    parts += ["<details><summary>Answers</summary>", _table(answers, types), "</details></section>"]
    return "".join(parts)


def _contents(answer: dict[str, Any]) -> str:
    return ", ".join(_said(content["schema"]) for content in answer.get("content", {}).values())


def _schema(name: str, schema: dict[str, Any], types: frozenset[str]) -> str:
    rows: list[tuple[str, str, str, str]] = []
    for branch in schema.get("anyOf", [schema]):
        needed = branch.get("required", ())
        label = f"{branch['title']}: " if branch is not schema else ""
        for member, one in branch.get("properties", {}).items():
            rows.append(
                (label + member, "required" if member in needed else "", _said(one), one.get("description", ""))
            )
    intro = f"<p>{_text(schema.get('description', ''))}</p>"
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3>{intro}{_table(rows, types)}</section>'


def _table(rows: list[tuple[str, str, str, str]], types: frozenset[str]) -> str:
    """Rows of a name, where it stands, its type (which leads to the type's own section) and what it means."""
    if not rows:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(where)}</td><td>{_linked(said, types)}</td>'
        f"<td>{_text(meaning)}</td></tr>"
        for name, where, said, meaning in rows
    )
    return f"<table>{lines}</table>"


def _text(text: str) -> str:
    """Prose with its code marks as code."""
    return _code.sub(r"<code>\1</code>", escape(text))


def _linked(said: str, types: frozenset[str]) -> str:
    return _name.sub(lambda hit: f'<a href="#{hit[0]}">{hit[0]}</a>' if hit[0] in types else hit[0], escape(said))


_BOUNDS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "maxProperties", "pattern", "default"),
)


def _said(schema: dict[str, Any]) -> str:
    """A schema in one line."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_said(one) for one in schema["anyOf"])
    if "allOf" in schema:
        return " and ".join(_said(one) for one in schema["allOf"])
    if "const" in schema or "enum" in schema:
        return " | ".join(str(one) for one in schema.get("enum", [schema.get("const")]))
    if "properties" in schema and "type" not in schema:
        return ", ".join(f"{name} {_said(one)}" for name, one in schema["properties"].items())
    kind = str(schema.get("type", "any JSON"))
    if kind == "array" and "items" in schema:
        kind = f"array of {_said(schema['items'])}"
    bounds = ", ".join(f"{name} {schema[name]}" for name in _BOUNDS if schema.get(name) not in (None, [], {}))
    return f"{kind} ({bounds})" if bounds else kind
