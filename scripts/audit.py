"""Ask an advisory database about every package that the service runs on. Run by `make audit`.

Usage: audit.py [REQUIREMENTS…]   (requirements/runtime.txt)

AUDIT_URL: of a database that speaks OSV's query API, in place of the public one. Exit codes: 0 nothing is known against
them, or no database can be reached, which is said; 1 something is; 2 the audit could not be done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
OSV: Final = "https://api.osv.dev/v1/query"
REACH_SECONDS: Final = 10
ANSWER_SECONDS: Final = 15
AUDIT_SECONDS: Final = 600


def is_reachable(url: str) -> bool:
    """Whether anything answers there; what it answers does not matter."""
    probe = urllib.request.Request(url, data=b"{}", headers={"content-type": "application/json"})
    try:
        urllib.request.urlopen(probe, timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def audit(url: str, files: list[str]) -> tuple[list[dict[str, Any]] | None, str]:
    """What is known of each package, or None and what went wrong."""
    program = Path(sys.executable).parent / "pip-audit"
    with tempfile.TemporaryDirectory() as cache:  # an answer of last month is none
        command = [
            str(program), "--disable-pip", "--no-deps", "--vulnerability-service", "osv", "--osv-url", url,
            "--format", "json", "--progress-spinner", "off", "--timeout", str(ANSWER_SECONDS), "--cache-dir", cache,
            *(word for file in files for word in ("--requirement", file)),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None, f"no end after {AUDIT_SECONDS} s"
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return None, done.stderr[-2000:] or f"pip-audit ended with {done.returncode} and no word"


def main(files: list[str]) -> int:
    url = os.environ.get("AUDIT_URL") or OSV
    found, trouble = (None, "") if not is_reachable(url) else audit(url, files)
    if found is None:
        if not trouble or not is_reachable(url):  # it may have gone away in between
            print(f"audit: no advisory database can be reached at {url}: nothing was checked")
            return 0
        print(f"audit: it could not be done: {trouble}", file=sys.stderr)
        return 2
    known = [(each, vuln) for each in found for vuln in each.get("vulns", ())]
    for each, vuln in known:
        names = ", ".join([vuln["id"], *vuln.get("aliases", ())])
        print(f"{each['name']} {each['version']}: {names}; fixed in {', '.join(vuln['fix_versions']) or 'no release'}")
    left_out = [each["name"] for each in found if "skip_reason" in each]
    if left_out:
        print(f"audit: not looked up: {', '.join(left_out)}")
    checked = len(found) - len(left_out)
    print(f"audit: {checked} packages, {len(known)} known vulnerabilities" if known else
          f"audit: {checked} packages, no known vulnerability")  # fmt: skip
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [str(ROOT / "requirements/runtime.txt")]))
