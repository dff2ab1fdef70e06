"""The report of `bellmark compare` in a real browser without a screen, spoken to by its debugging protocol."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bellmark.scripts.comparison import figures
from bellmark.scripts.comparison.page import page, protocol
from bellmark.scripts.comparison.runs import Published, Run
from bellmark.scripts.comparison.summary import Summary, summarize

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def summary() -> Summary:
    rng, clock = np.random.default_rng(0), np.arange(1000, 11_000, 1000)
    runs = [
        Run(
            name,
            env,
            seed,
            clock,
            rng.normal(place + clock / 5000, 0.3),
            protocol="10 episodes",
            seconds=5.0 + place,
            memory=3e8,
            versions={"torch": "2"},
            command=f"bellmark train {name} --env {env}",
            source=f"runs/{seed}",
        )
        for place, name in enumerate(
            ("td3", "sb3:td3", "td3:actor_delay=1,hidden=[64,64]", "<script>alert(1)</script>")
        )
        for env in ("Pendulum-v1", "HalfCheetah-v5")
        for seed in (1, 2, 3)
    ]
    return summarize(runs, [Published("SB3 TD3", "Pendulum-v1", 10, 2.0, 0.1, 5, "std over seeds", "a table")])


class Browser:
    """Chromium, and one page in it."""

    def __init__(self, folder: Path):
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        command = (
            f"exec {BROWSER} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe"
        )
        command += f" --no-first-run --user-data-dir={folder} about:blank 3<&{to_read} 4>&{to_write}"
        environment = os.environ | {"HOME": str(folder)}
        self.process = subprocess.Popen(
            ["bash", "-c", command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL, env=environment
        )
        os.close(to_read)
        os.close(to_write)
        self._ids, self._buffer, self.events = count(1), b"", list[dict[str, Any]]()
        self.session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            found = os.read(self._read, 2**16)
            if not found:
                raise RuntimeError("the browser has gone")
            self._buffer += found
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, path: Path, width: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=740, deviceScaleFactor=1, mobile=width < 500
        )
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press_tab(self) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "compare.html"
    path.write_text(page(summary(), ["bellmark", "compare", "td3"]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if BROWSER is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


def test_the_file_needs_nothing_else(report):
    text = report.read_text()
    addresses = re.findall(r'(?:href|src)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert addresses and all(address.startswith(("#", "data:,")) for address in addresses)
    assert "<script" not in text and "&lt;script&gt;" in text
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))


def test_versions_are_stated_once_for_all_that_share_them():
    s = summary()
    first, *others = s.runs
    newer = first._replace(versions={"torch": "3"})
    text = protocol(summarize([newer, *others], []))
    assert text.count("torch 2") == text.count("torch 3") == 1
    assert "<li>td3: torch 3</li>" in text


def test_data_of_every_run_is_stated():
    runs = [run._replace(data_hash=f"{run.seed}" * 64) for run in summary().runs]
    assert "1111111111111111; 2222222222222222; 3333333333333333" in protocol(summarize(runs, []))


def test_names_break_between_settings():
    name = "a=sb3:td3:hidden=[64,64],actor_delay=1"
    assert figures.pieces(name) == ["a=sb3:", "td3:", "hidden=[64,64],", "actor_delay=1"]
    assert figures.filled(name) == "a=sb3:td3:\nhidden=[64,64],\nactor_delay=1"
    for odd in ("", "::", "a,,b", "[,", "x]y,", ",[a:b],c:"):
        assert "".join(figures.pieces(odd)) == odd


def test_lines_differ_without_colour():
    looks = [(str(figures.style(place)["linestyle"]), figures.style(place)["marker"]) for place in range(70)]
    assert len(set(looks)) == 70
    assert len({dash for dash, _ in looks[:7]}) == 7


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_screen(browser, report, width):
    browser.open(report, width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("window.innerWidth") == width
    wide = (
        "[...document.querySelectorAll('figure svg')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    )
    assert browser.value(wide) == 0
    small = """[...document.querySelectorAll('figure svg text')]
        .map(e => e.getBoundingClientRect()).filter(b => b.width && Math.min(b.width, b.height) < 6).length"""
    assert browser.value(small) == 0
    assert browser.value("document.querySelectorAll('section').length") == 10
    assert browser.value("document.querySelectorAll('figure svg').length") == 2 + 4 + 1
    requests = [e["params"]["request"]["url"] for e in browser.events if e.get("method") == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:")) for url in requests)
    problems = [
        event for event in browser.events if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert not problems


def test_everything_is_reached_by_tab_in_reading_order(browser, report):
    browser.open(report, 360)
    wanted = "[...document.querySelectorAll('a, summary, .scroll')].map((e, i) => (e.dataset.place = i, i))"
    order = browser.value(wanted)
    seen = []
    for _ in order:
        browser.press_tab()
        seen.append(browser.value("Number(document.activeElement.dataset.place)"))
    assert seen == order
    assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
