"""Typed bodies of requests, answers and problems: shared by `api` and `client`. Names of ours, by file:

`common` (Limits, ids), `entries` (EntryDraft and what each type needs), `requests`, `queries`, `answers`.
"""
