"""The page: it is whole, asks nobody but its server, and does in a real browser what the command does."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from miase.audio import load
from miase.writing import save

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "src" / "miase" / "page"
VENDOR = PAGE / "vendor"
NOISY = ROOT / "examples" / "noisy.flac"
OWN = sorted(path for path in PAGE.rglob("*") if path.is_file() and VENDOR not in path.parents)
SCRIPTS = [path for path in OWN if path.suffix == ".js"]
STRENGTH = 60  # %
MOST_APART = 0.05  # seconds between where the playhead is and where it should be
READY_MS = 120_000


class Tags(HTMLParser):
    """All tags of a document with their attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inline = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def tags():
    return Tags((PAGE / "index.html").read_text(encoding="utf-8"))


def imports_of(path):
    return re.findall(r'(?:from|import|new URL\()\s*"(\.?/?[\w./-]+\.js)"', path.read_text(encoding="utf-8"))


def test_every_file_exists_and_is_used(tags):
    used = {PAGE / "index.html"}
    for _, attributes in tags.found:
        for name in ("src", "href"):
            if name in attributes:
                used.add(PAGE / attributes[name].removeprefix("static/"))
    for path in SCRIPTS:
        used |= {(path.parent / name).resolve() for name in imports_of(path)}
    assert {path for path in used if not path.is_file()} == set()
    kept = {path for path in VENDOR.rglob("*") if path.is_file() and path.suffix == ".js"}
    assert {*OWN, *kept} - used == set()


def test_what_scripts_look_for_is_in_the_document(tags):
    there = {attributes["id"] for _, attributes in tags.found if "id" in attributes}
    wanted = {name for path in SCRIPTS for name in re.findall(r'\$\("([\w-]+)"\)', path.read_text())}
    assert wanted - there == set()
    labels = {attributes.get("for") for tag, attributes in tags.found if tag in ("label", "output")}
    assert labels - there - {None} == set()


def test_no_address_of_another_host():
    for path in PAGE.rglob("*"):
        if path.suffix in (".html", ".js", ".css", ".svg"):
            text = path.read_text(encoding="utf-8")
            hosts = set(re.findall(r"(?:https?|wss?)://([\w.-]+)", text))
            assert hosts <= {"www.w3.org"}, path  # the name of a namespace, never asked for
            assert not re.search(r"""(?:src|href)\s*=\s*["']//|url\(|@import""", text), path


def test_no_inline_script_or_style(tags):
    assert tags.inline == []
    for tag, attributes in tags.found:
        assert tag != "style"
        assert not {name for name in attributes if name == "style" or name.startswith("on")}, tag
    for path in SCRIPTS:
        assert not re.search(r"\beval\(|new Function|innerHTML|insertAdjacentHTML", path.read_text()), path


def test_the_policy_allows_nothing_but_the_server(tags):
    (policy,) = (
        attributes["content"]
        for tag, attributes in tags.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy


def test_what_is_not_ours_brings_its_licence():
    for folder in VENDOR.iterdir():
        assert "Copyright" in (folder / "LICENSE").read_text()
        assert re.search(r"\d+\.\d+\.\d+", (folder / "README.md").read_text())


def test_the_wheel_contains_the_page(tmp_path):
    build = pytest.importorskip("hatchling.builders.wheel")
    wheel = next(iter(build.WheelBuilder(str(ROOT)).build(directory=str(tmp_path))))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"miase/page/{path.relative_to(PAGE).as_posix()}" for path in OWN} <= names
    assert "miase/page/vendor/wavesurfer/LICENSE" in names


# ---- in a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A server of its own."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "miase", "serve", "--port", "0", "--workers", "1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path_factory.mktemp("server"))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            yield re.search(r"http://\S+", server.stdout.readline()).group()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium here")
    options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Opens the page; fails afterwards if it complained or asked another host."""
    complaints, contexts = [], []

    def open_page(script="", expected="", **options):
        context = browser.new_context(accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()

        def check(route):
            url = route.request.url
            if url.startswith((address, f"blob:{address}", "data:")):
                route.continue_()
            else:
                complaints.append(f"asked for {url}")
                route.abort()

        page.route("**/*", check)

        def listen(line):
            if line.type in ("error", "warning") and not (expected and expected in line.text):
                complaints.append(line.text)

        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if script:
            page.add_init_script(script)
        page.goto(address)
        page.locator("#model option").first.wait_for(state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def drop(page, *paths):
    files = [(path.name, base64.b64encode(path.read_bytes()).decode()) for path in paths]
    transfer = page.evaluate_handle(
        """(files) => {
          const transfer = new DataTransfer();
          for (const [name, data] of files)
            transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name));
          return transfer;
        }""",
        files,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def ready(page):
    """Waits until the recording is done, can be heard and has been rated."""
    page.locator("[data-state=done]").first.wait_for(timeout=READY_MS)
    page.locator("#listen:not([data-loading])").wait_for(timeout=READY_MS)
    page.locator("#scores table, #scores .note:not(:text('being made'))").first.wait_for(timeout=READY_MS)


def played_until(page, seconds):
    page.evaluate(
        """async (seconds) => {
          const seek = document.getElementById("seek");
          while (Number(seek.value) < seconds) await new Promise(requestAnimationFrame);
        }""",
        seconds,
    )


# Runs in the page: (time, place of the playhead) before and after a key, each read right after it was drawn.
SWITCH = """async (key) => {
  const drawn = () => new Promise(requestAnimationFrame);
  const place = async () => {
    const before = seek.value;
    while (seek.value === before) await drawn();
    return [performance.now() / 1000, Number(seek.value)];
  };
  const seek = document.getElementById("seek");
  const first = await place();
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  for (let i = 0; i < 12; i++) await drawn();
  return [first, await place()];
}"""


def test_a_dropped_file_is_enhanced_heard_and_saved_as_by_the_command(visit, tmp_path):
    page = visit(viewport={"width": 1280, "height": 900})
    drop(page, NOISY)
    ready(page)

    page.click("#play")
    page.locator("#play.playing").wait_for()
    for key, choice in (("1", "noisy"), ("3", "noise"), ("2", "estimate")):
        (time, place), (later, after) = page.evaluate(SWITCH, key)
        assert page.is_checked(f"input[value={choice}]")
        assert abs((after - place) - (later - time)) < MOST_APART
        assert after > place
    page.keyboard.press("Space")  # the button has the focus
    page.locator("#play:not(.playing)").wait_for()

    page.fill("#strength", str(STRENGTH))
    assert page.inner_text("#strength-text") == f"{STRENGTH} %"
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "noisy_enhanced.flac"
    ours = tmp_path / "command.flac"
    command = ["enhance", str(NOISY), "-o", str(ours), "--strength", str(STRENGTH / 100)]
    subprocess.run([sys.executable, "-m", "miase", *command], check=True, capture_output=True)
    assert Path(download.value.path()).read_bytes() == ours.read_bytes()


@pytest.mark.parametrize(
    ("switch", "option"), [("#shifts", ("--shifts", "4")), ("#hear", ("--high-band", "hear"))]
)
def test_a_switch_does_what_the_option_of_the_command_does(visit, tmp_path, switch, option):
    noisy = tmp_path / "noisy.flac"
    samples, rate = load(NOISY, 32000)
    hiss = 0.01 * np.random.default_rng(0).standard_normal(samples.shape)  # up to twice the model's band
    save(noisy, samples + hiss, rate)
    page = visit(viewport={"width": 1280, "height": 900})
    page.check(switch)
    drop(page, noisy)
    ready(page)
    with page.expect_download() as download:
        page.click("#download")
    ours = tmp_path / "command.flac"
    command = ["enhance", str(noisy), "-o", str(ours), *option]
    subprocess.run([sys.executable, "-m", "miase", *command], check=True, capture_output=True)
    assert Path(download.value.path()).read_bytes() == ours.read_bytes()


# Keeps what the page sends to the loudspeakers.
KEEP_HEARD = """
window.heard = [];
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const { context } = to;
    if (!context.tap) {
      context.tap = context.createScriptProcessor(1024, 1, 1);
      context.tap.onaudioprocess = ({ inputBuffer }) => heard.push(...inputBuffer.getChannelData(0));
      connect.call(context.tap, to);
    }
    connect.call(this, context.tap);
  }
  return connect.call(this, to, ...rest);
};
"""


def test_a_preview_comes_first_and_pieces_are_heard_without_a_gap(visit, address, tmp_path):
    noisy, rate = load(NOISY)
    longer = np.tile(noisy, 3)[:, : 13 * rate]  # the page reads it in pieces of ten seconds
    save(tmp_path / "longer.wav", longer, rate)
    page = visit(script=KEEP_HEARD, expected="ScriptProcessorNode")
    posts = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    drop(page, tmp_path / "longer.wav")
    ready(page)
    page.locator("#time:text('/ 0:13.0')").wait_for()
    assert posts == [f"{address}v1/jobs"] * 2
    page.uncheck("#matched")
    page.check("input[value=noisy]", force=True)
    page.fill("#seek", "9")
    page.click("#play")
    played_until(page, 11)
    heard = np.array(page.evaluate("heard"))
    start = np.flatnonzero(heard)[0] + 1600  # after the fade
    heard = heard[start : start + int(1.5 * rate)]
    near = longer[0, int(8.9 * rate) : int(9.4 * rate) + len(heard)]
    places = np.flatnonzero(np.abs(near[: -len(heard)] - heard[0]) < 1e-6)
    least = min(np.abs(near[place : place + len(heard)] - heard).max() for place in places)
    assert least < 1e-4


def test_what_is_cancelled_stops_and_leaves_its_preview(visit, address, tmp_path):
    noisy, rate = load(NOISY)
    save(tmp_path / "long.wav", np.tile(noisy, 200), rate)
    page = visit()
    page.set_input_files("#picker", tmp_path / "long.wav")
    page.locator(".state:text('Enhancing all of it')").wait_for(timeout=READY_MS)
    page.locator(".badge:text('Preview ready')").wait_for()
    page.focus(".file .buttons button:visible")
    page.keyboard.press("Enter")
    page.locator("[data-state=cancelled]").wait_for()
    assert page.evaluate("document.activeElement.className") == "name"
    page.locator("#listen:not([data-loading])").wait_for()
    assert "cancelled" in page.inner_text("#listen-note")
    page.click("#play")
    played_until(page, 0.5)
    with urllib.request.urlopen(f"{address}healthz") as answer:
        health = json.load(answer)
    assert (health["running"], health["queued"]) == (0, 0)


def test_troubles_are_told_in_words(visit, tmp_path):
    page = visit(expected="Failed to load resource")
    posts = []

    def busy_once(route):
        posts.append(route)
        if len(posts) == 1:
            route.fulfill(status=429, headers={"Retry-After": "2"}, json={"error": "the queue is full"})
        else:
            route.fallback()

    page.route("**/v1/jobs", busy_once)
    drop(page, NOISY)
    page.locator(".state:text('trying again in 2 s')").wait_for()
    page.locator("[data-state=done]").wait_for(timeout=READY_MS)
    document = tmp_path / "document.wav"
    document.write_text("<!doctype html><p>no sound")
    drop(page, document)
    page.locator("[data-state=failed] .state:text('not a sound file')").wait_for(timeout=READY_MS)


def test_several_files_come_as_one_archive(visit, tmp_path):
    page = visit()
    second = tmp_path / "second.flac"
    shutil.copy(NOISY, second)
    drop(page, NOISY, second)
    page.locator("[data-state=done]").nth(1).wait_for(timeout=READY_MS)
    with page.expect_download() as download:
        page.click("#zip")
    names = zipfile.ZipFile(download.value.path()).namelist()
    assert sorted(names) == ["noisy_enhanced.flac", "second_enhanced.flac"]


def test_the_microphone_is_recorded(visit):
    page = visit()
    page.click("#record")
    page.wait_for_timeout(1500)
    page.click("#record")
    page.locator("[data-state=done]").wait_for(timeout=READY_MS)
    assert "mono" in page.inner_text(".state")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_the_way_of_anybody(visit, width, scheme):
    axe = Path(os.environ.get("AXE", ROOT / "node_modules" / "axe-core" / "axe.min.js"))
    if not axe.is_file():
        pytest.skip("axe-core is not here; the variable AXE may name its axe.min.js")
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.evaluate(axe.read_text(encoding="utf-8"))

    def check():
        found = page.evaluate("async () => (await axe.run()).violations")
        return [
            (rule["id"], node["html"], node["failureSummary"])
            for rule in found
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]

    assert check() == []
    drop(page, NOISY)
    ready(page)
    page.click("summary")
    page.fill("#zoom", "80")
    assert check() == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
