"""Opens pages in a real browser, and says what it saw there."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"
)

PHONE = 360
TYPES = (
    "crack",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(2)>",
    "مرحبا 👾",
    "a_name_that_is_far_too_long_for_any_phone_and_that_breaks_nowhere" * 2,
)

# Runs in the page itself. What is seen goes to the outermost document, whose text is read.
LOOK = """
addEventListener("load", () => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = () => all(".sample").filter((s) => s.offsetParent).map(
    (s) => s.querySelector("h3").textContent);
  const press = (group, value) => {
    all(`[data-filter=${group}] button`).find((b) => b.dataset.value === value).click();
    return shown();
  };
  const seen = {
    width: innerWidth,
    content: document.documentElement.scrollWidth,
    over: all("main *").filter((e) => !e.closest(".scroll, svg")
      && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.outerHTML.slice(0, 80)),
    broken: all("main :not(dialog) > img").filter((i) => !i.naturalWidth).length,
    pictures: shown(),
    paper: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    titles: all("h2").map((h) => h.textContent),
  };
  if (all("[data-filter=type] button").some((b) => b.dataset.value === TYPE)) {
    seen.misses = press("outcome", "miss");
    seen.missesOfType = press("type", TYPE);
    seen.status = document.querySelector(".shown").textContent;
    seen.ofType = press("outcome", undefined);
    seen.alarms = (press("type", undefined), press("outcome", "false alarm"));
    seen.right = press("outcome", "right");
    seen.again = press("outcome", undefined);
    seen.pressed = all("button[aria-pressed=true]").map((b) => b.dataset.value ?? null);
  }
  const button = document.querySelector(".zoom");
  if (button) {
    button.click();
    const dialog = document.querySelector("dialog");
    seen.enlarged = [dialog.open, dialog.querySelector("p").textContent];
    const box = dialog.getBoundingClientRect();
    seen.dialogFits = box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
    dialog.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
    seen.next = dialog.querySelector("p").textContent;
    dialog.click();
    seen.closed = !dialog.open;
  }
  const result = top.document.createElement("pre");
  result.className = "result";
  result.textContent = JSON.stringify(seen);
  top.document.body.append(result);
});
"""


class Visit(NamedTuple):
    """What the pages said, what stood in the console, and what was asked of the network."""

    seen: list[dict]
    console: list[str]
    requests: list[str]


def visit(folder: Path, pages: list[str], *, width: int | None = None, dark: bool = False) -> Visit:
    """Opens a page from a file; with a width, pages in frames that are as wide."""
    type_name = json.dumps(TYPES[1]).replace("</", "<\\/")  # must not end the script
    script = f"<script>{LOOK.replace('TYPE', type_name)}</script>"
    pages = [page.replace("</body>", f"{script}</body>") for page in pages]
    if width is None:
        (document,) = pages
    else:
        # Chromium's own windows are never narrower than 500.
        frame = '<iframe style="border: 0; width: {}px; height: 640px" srcdoc="{}"></iframe>'
        frames = [frame.format(width, html.escape(page)) for page in pages]
        document = f"<!doctype html><meta charset=utf-8><body>{''.join(frames)}</body>"
    path, log = folder / "page.html", folder / "net.json"
    path.write_text(document, encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-background-networking", f"--user-data-dir={folder / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}"]
    command += ["--enable-logging=stderr", "--window-size=1200,800"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    results = re.findall(r'<pre class="result">(.*?)</pre>', done.stdout, re.DOTALL)
    requests = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return Visit(
        seen=[json.loads(html.unescape(result)) for result in results],
        console=[line for line in done.stderr.splitlines() if "CONSOLE" in line],
        # What the browser itself asks for has no origin.
        requests=[
            request["url"]
            for request in requests
            if request.get("initiator", "not an origin") != "not an origin"
            and not request["url"].startswith("file:")
        ],
    )
