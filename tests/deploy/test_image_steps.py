"""The steps of the image's build, run in a clean directory: what comes out serves, stops, and says what is in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.deploy.image import Build, stages
from tests.support.house import ROOT
from tests.support.left_out import FULL

pytestmark = [pytest.mark.slow, FULL]

STOP_SECONDS: Final = 60.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    build = Build(tmp_path_factory.mktemp("image") / "root")
    try:
        build.run(stages()["build"])
    except subprocess.CalledProcessError:
        raise AssertionError(build.log.read_text()[-4000:]) from None
    return build


def _plain(name: str) -> str:
    """The name of a package as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_service_in_it_serves_and_stops_at_sigterm(built: Build, tmp_path: Path) -> None:
    program = built.place("/opt/sessionmanager/bin/sessionmanager")
    around = {"PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path / "data"), "SERVER_PORT": "0"}
    process = subprocess.Popen(
        [program, "serve", "--json"], env=around, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        assert process.stdout is not None
        banner = json.loads(process.stdout.readline())
        token = subprocess.run(
            [program, "token", "--data-dir", str(tmp_path / "data")],
            env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True, cwd=tmp_path,
        ).stdout.strip()  # fmt: skip
        code = (
            "import sys, urllib.request as r; "
            "q = r.Request(sys.argv[1] + '/sessions', data=b'{}', headers={'authorization': 'Bearer ' + sys.argv[2], "
            "'content-type': 'application/json'}); print(r.urlopen(q).status)"
        )
        python = built.place("/opt/sessionmanager/bin/python")
        asked = [python, "-c", code, banner["address"], token]
        assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "201\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.communicate()


def test_nothing_in_it_installs_or_compiles(built: Build) -> None:
    place = built.place("/opt/sessionmanager")
    names = {path.name for path in (place / "bin").iterdir()}
    assert not {name for name in names if re.match(r"pip|easy_install|uv$|hatch", name)}
    packages = next((place / "lib").glob("python3.*")) / "site-packages"
    assert not {"pip", "setuptools", "wheel", "hatchling", "pytest"} & {path.name for path in packages.iterdir()}
    assert not list(packages.glob("sessionmanager-*/direct_url.json")), "it names no place of the machine that built it"


def test_it_lists_all_that_is_in_it(built: Build) -> None:
    listed = json.loads(built.place("/opt/sessionmanager/sbom.cdx.json").read_text())
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    found = {f"{_plain(one['name'])}=={one['version']}" for one in listed["components"]}
    lock = (ROOT / "requirements" / "runtime.txt").read_text()
    pins = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([^\s;]+)( ;[^\\]*)?", lock, re.MULTILINE)
    always = {f"{_plain(name)}=={version}" for name, version, marker in pins if not marker}
    assert always
    assert always <= found
    assert any(one.startswith("sessionmanager==") for one in found)


def test_modules_are_compiled_and_nothing_need_be_written(built: Build, tmp_path: Path) -> None:
    place = built.place("/opt/sessionmanager")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    around = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run(
        [place / "bin" / "sessionmanager", "--help"], env=around, check=True, capture_output=True, cwd=tmp_path
    )
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before
    assert list(place.rglob("sessionmanager/__pycache__/wiring.*.pyc"))
    assert os.listdir(tmp_path) == []
