"""Print the ids of the tests that failed in the last run of pytest, a line each; nothing when none did."""

import json
from pathlib import Path

LAST_FAILED = Path(__file__).parent.parent / ".pytest_cache" / "v" / "cache" / "lastfailed"


def main() -> None:
    """Read what pytest's cache plugin keeps (`cache/lastfailed`: id → true) and print it in order."""
    if LAST_FAILED.exists():
        print("\n".join(sorted(json.loads(LAST_FAILED.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
