"""What the documentation says and a program can check: links, names of files, options, uvicorn's flags."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for pattern in ("*.md", "docs/*.md", "tests/*.md", "stress/*.md") for path in ROOT.glob(pattern))

UVICORN_FLAGS = """
--host --port --uds --fd --reload --reload-dir --reload-include --reload-exclude --reload-delay --workers --loop --http
--http2 --ws --ws-max-size --ws-max-queue --ws-ping-interval --ws-ping-timeout --ws-per-message-deflate --lifespan
--interface --env-file --log-config --log-level --access-log --use-colors --proxy-headers --server-header --date-header
--forwarded-allow-ips --root-path --limit-concurrency --backlog --limit-max-requests --limit-max-requests-jitter
--timeout-keep-alive --timeout-graceful-shutdown --timeout-worker-healthcheck --ssl-keyfile --ssl-certfile
--ssl-keyfile-password --ssl-version --ssl-cert-reqs --ssl-ca-certs --ssl-ciphers --header --version --app-dir
--h11-max-incomplete-event-size --reset-contextvars --factory --help
""".split()  # noqa: SIM905
"""Of uvicorn 0.54, without the negations."""


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`((?:test_|\w+/)[\w/]+\.(?:py|svg|md|toml))", page.read_text()):
        known = any((ROOT / folder / name).exists() for folder in ("", "pounce", "tests"))
        assert known or any((ROOT / "tests").glob(f"**/{name}")), f"{page.name}: {name}"


SOURCES = sorted(
    path for folder in ("pounce", "tests", "stress", "tools", "examples") for path in ROOT.glob(f"{folder}/**/*.py")
)


def test_files_that_the_code_names_exist():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in re.findall(
            r"\b(?:tests|pounce|stress|tools|docs|examples)/[\w/.-]*\w\.(?:py|md|svg)\b", path.read_text()
        )
        if not (ROOT / name).exists()
    ]
    assert not wrong


def test_options_md_is_that_of_the_command_line():
    command = [sys.executable, ROOT / "tools" / "options_table.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_flag_of_uvicorn_is_in_the_page_on_migrating():
    page = (ROOT / "docs" / "migrating-from-uvicorn.md").read_text()
    missing = [flag for flag in UVICORN_FLAGS if f"`{flag}`" not in page]
    assert not missing


def test_the_example_of_the_readme_is_the_application_that_it_runs(tmp_path):
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(async def app.*?)```", text, re.DOTALL)[1]
    assert len(code.splitlines()) <= 6
    (tmp_path / "main.py").write_text(code)
    program = (
        "import urllib.request\nfrom main import app\nfrom pounce.testing import TestServer\n"
        "with TestServer(app) as server:\n    print(urllib.request.urlopen(server.url).read())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "b'Hello, world!'", done.stderr


def test_every_pip_command_names_the_distribution_and_an_extra_that_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    commands = [
        (path.relative_to(ROOT), name, extra)
        for path in (*PAGES, *ROOT.glob("pounce/**/*.py"))
        for name, extra in re.findall(r"pip install '?(pounce[\w-]*)(?:\[(\w+)\])?", path.read_text())
    ]
    assert {name for _, name, _ in commands} == {project["name"]}
    assert {extra for _, _, extra in commands} - {""} == set(project["optional-dependencies"])


def test_classes_and_methods_that_internals_names_exist():
    source = "\n".join(path.read_text() for path in (ROOT / "pounce").rglob("*.py"))
    wrong = [
        f"{owner}.{member}" if member else owner
        for owner, member in re.findall(
            r"`([A-Z][A-Za-z]+)(?:\.(\w+))?(?:\(\))?`", (ROOT / "docs/internals.md").read_text()
        )
        if not re.search(rf"\bclass {owner}\b", source) or not re.search(rf"\b{member}\b", source)
    ]
    assert set(wrong) <= {"EventSource", "OrderedDict"}
