"""The what-if page in a headless Chromium: it loads, asks no other host, and its number is the network's."""

import os
import re
import shutil
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from fusionconv.study import Study, load_predictor
from fusionconv.study.command import main

gradio = pytest.importorskip("gradio", reason="gradio is not installed: pip install 'fusionconv[serve]'")
from fusionconv.study import serve as server  # noqa: E402
from fusionconv.study.what_if import WhatIf  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENT = 90_000  # ms: the machine may be busy


@pytest.fixture(scope="module")
def out(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "out"
    study = Study(**{**small, "lr": 0.02, "covariates": ["age", "site"], "rows": "site != 'C'"})
    study.compare(["image", "covariates", "hybrid@first"], out=folder, progress=False, report=False)
    return folder


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(out):
    page = server.serve(str(out), wait=False)
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture
def page(browser, address):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(PATIENT)
    opened.asked, opened.errors = [], []
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.goto(address)
    opened.wait_for_selector("#effect svg")
    yield opened
    opened.close()


def shown(page):
    return float(page.locator(".fc-value").get_attribute("data-value"))


def move(page, place, value):
    """Type a value beside the slider, and wait until the answer is another."""
    before = page.locator(".fc-value").get_attribute("data-value")
    box = page.locator(f"#covariate-{place} input[type=number]")
    box.fill(str(value))
    box.press("Enter")
    page.wait_for_function("was => document.querySelector('.fc-value')?.dataset.value !== was", arg=before)


def expected(out, row, fold):
    asked = WhatIf.open(out)
    predictor = load_predictor(out / "runs/hybrid-first" / fold / "model")
    name = row["id"].iloc[0]
    return predictor(asked.store.read([name]), torch.from_numpy(predictor.encoder.transform(row)))["probability"][0]


def test_the_number_follows_the_slider_and_is_exactly_the_network_s(page, out):
    rows, folds = pd.read_csv(out / "rows.csv"), pd.read_csv(out / "folds.csv")
    row = rows.iloc[[0]]
    fold = next(f for f in ("repeat0-fold0", "repeat0-fold1") if folds[f].iloc[0] == "test")
    assert page.locator("#row input").input_value() == row["id"].iloc[0]
    assert shown(page) == expected(out, row, fold)
    assert page.locator(".fc-warn").count() == 0
    move(page, 0, 66.6)
    assert shown(page) == expected(out, row.assign(age=66.6), fold)
    assert f"{shown(page):.3f}" == page.locator(".fc-value").inner_text()
    slider = page.locator("#covariate-0 input[type=range]")
    before = shown(page)
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_function("was => document.querySelector('.fc-value').dataset.value !== was", arg=repr(before))
    age = float(slider.input_value())
    assert age == pytest.approx(66.5)
    assert shown(page) == expected(out, row.assign(age=age), fold)
    page.locator("#back").click()
    page.wait_for_function("value => document.querySelector('.fc-value').dataset.value == value",
                           arg=repr(float(expected(out, row, fold))))  # fmt: skip
    assert float(slider.input_value()) == pytest.approx(row["age"].iloc[0])


def test_a_category_and_a_gap_are_chosen(page, out):
    rows, folds = pd.read_csv(out / "rows.csv"), pd.read_csv(out / "folds.csv")
    row = rows.iloc[[0]].astype({"site": object})
    fold = next(f for f in ("repeat0-fold0", "repeat0-fold1") if folds[f].iloc[0] == "test")
    other = {"A": "B", "B": "A"}[row["site"].iloc[0]]
    for label, site in ((other, other), ("(missing)", None)):
        before = page.locator(".fc-value").get_attribute("data-value")
        page.locator("#covariate-1 input").click()
        page.get_by_role("option", name=label, exact=True).click()
        page.wait_for_function("was => document.querySelector('.fc-value').dataset.value !== was", arg=before)
        assert shown(page) == expected(out, row.assign(site=[site]), fold)


def test_a_value_outside_of_training_is_warned_of(page):
    limit = float(page.locator("#covariate-0 input[type=range]").get_attribute("max"))
    move(page, 0, limit)
    page.wait_for_selector(".fc-warn")
    assert re.search(
        rf"age = {limit:g} is outside of what the networks saw in training", page.locator(".fc-warn").inner_text()
    )
    page.locator("#back").click()
    page.wait_for_selector(".fc-warn", state="detached")


def test_another_row_brings_its_own_values(page, out):
    rows = pd.read_csv(out / "rows.csv")
    page.locator("#row input").click()
    page.get_by_role("option", name=rows["id"].iloc[5], exact=True).click()
    page.wait_for_function("age => document.querySelector('#covariate-0 input[type=number]').value == Number(age)",
                           arg=str(rows["age"].iloc[5]))  # fmt: skip
    assert page.locator("#covariate-1 input").input_value() == rows["site"].iloc[5]
    page.wait_for_function("text => document.querySelector('#answer').innerText.includes(text)",
                           arg=f"In the table: dx {rows['dx'].iloc[5]}")  # fmt: skip


def test_no_other_host_is_asked_and_no_telemetry_is_on(page, address):
    assert len(page.asked) > 10
    assert [url for url in page.asked if not url.startswith((address, "data:", "blob:"))] == []
    assert page.errors == []
    head = page.request.get(address)
    assert "connect-src 'self'" in head.headers["content-security-policy"]
    assert "default-src 'self'" in head.headers["content-security-policy"]
    config = page.evaluate("window.gradio_config")
    assert config["analytics_enabled"] is False
    assert page.request.get(f"{address}gradio_api/mcp/").status == 404
    refused = page.evaluate("fetch('http://127.0.0.2:9/').then(() => 'asked', error => String(error))")
    assert "TypeError" in refused  # the policy, or nobody there: either way nothing came


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_1280_x_900(browser, address, scheme):
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    opened.set_default_timeout(PATIENT)
    opened.goto(address)
    opened.wait_for_selector("#effect svg")
    opened.wait_for_selector("#kernels svg")
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1280
    for part in ("row", "covariate-0", "answer", "pictures", "effect", "kernels"):
        box = opened.locator(f"#{part}").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1280, part
        assert box["y"] + box["height"] <= 900, part
    text, ground = opened.evaluate(
        "[getComputedStyle(document.querySelector('.fc-what')).color, getComputedStyle(document.body).backgroundColor]"
    )
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in (text, ground)]
    assert (bright[0] > bright[1]) is (scheme == "dark")
    opened.close()


# ---- what cannot be opened ----


def refused(capsys, *words):
    assert main(["serve", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fusionconv serve: ")
    assert "Traceback" not in said
    return said


def test_a_port_in_use_is_refused_and_a_free_one_named(out, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capsys, out, "--port", port)
        assert f"expected a free one, got {port}, which is in use" in said
        free = int(re.search(r"give --port (\d+), which is free", said)[1])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", free))
        assert server.free_port("127.0.0.1", free) == free


def test_without_a_port_the_first_free_one_is_taken(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(server, "_FIRST", taken.getsockname()[1])
        monkeypatch.setattr(server, "_LAST", min(taken.getsockname()[1] + 50, 65535))
        assert server.free_port("127.0.0.1", None) > taken.getsockname()[1]


@pytest.mark.parametrize("port", ["0", "70000", "abc", "3.5", "-1", "true"])
def test_what_is_no_port_is_refused(out, capsys, port):
    assert "port: expected a whole number from 1 to 65535, got" in refused(capsys, out, "--port", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_of_another_machine_is_refused(out, capsys, host):
    assert "host: expected an address of this machine" in refused(capsys, out, "--host", host)


def test_an_unknown_arm_and_no_study_are_refused(out, capsys, tmp_path):
    said = refused(capsys, "--study", out, "--arm", "film@last")
    assert "arm: expected one of image, hybrid-first, got 'film@last'" in said
    assert "expected the folder of a study" in refused(capsys, tmp_path)
    assert "did you mean --study?" in refused(capsys, "--studdy", out)


def test_without_gradio_the_extra_is_named_before_anything_is_done(out, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'fusionconv[serve]'" in refused(capsys, out)
    assert "pip install 'fusionconv[serve]'" in refused(capsys)


# ---- without a study ----


def test_the_demo_study_is_made_once_and_used_again(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = []

    def demo(dims, folder):
        made.append((dims, folder))
        shutil.copytree(out, folder)

    monkeypatch.setattr("fusionconv.study.demo.demo", demo)
    for _ in range(2):
        assert server.demo_study() == Path("runs/demo-2d")
    assert made == [(2, "runs/demo-2d")]
    assert "training the demo study" in capsys.readouterr().out
    Path("runs/demo-2d/results.csv").unlink()  # it was stopped half-way
    with pytest.raises(FileExistsError):
        server.demo_study()
    assert len(made) == 2


@pytest.mark.skipif(
    "FUSIONCONV_DOCS_IMAGES" not in os.environ,
    reason="writes docs/images/what-if.png; FUSIONCONV_DOCS_IMAGES=DIR asks for it, with the demo study in DIR",
)
def test_the_screenshot_of_the_docs(browser, monkeypatch):
    """The demo study, a row whose disease the scanner decides, with the other scanner."""
    target = Path(__file__).parents[2] / "docs/images/what-if.png"
    monkeypatch.chdir(os.environ["FUSIONCONV_DOCS_IMAGES"])
    opened = server.serve(wait=False)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENT)
    page.goto(opened.local_url)
    page.wait_for_selector("#effect svg")
    asked = WhatIf.open("runs/demo-2d")
    name, other = next(
        (name, other)
        for name in asked.frame.index
        for other in {"A", "B"} - {asked.own(name)["scanner"]}
        if asked.ask("hybrid-first", name, {}).value("probability") < 0.1
        and asked.ask("hybrid-first", name, {"scanner": other}).value("probability") > 0.9
    )
    page.locator("#row input").fill(name)
    page.get_by_role("option", name=name, exact=True).click()
    page.wait_for_function("text => document.querySelector('.fc-who').innerText.includes(text)", arg="disease no")
    page.locator("#covariate-0 input").click()
    page.get_by_role("option", name=other, exact=True).click()
    page.wait_for_selector(".fc-delta")
    page.wait_for_timeout(3000)
    target.parent.mkdir(exist_ok=True)
    page.screenshot(path=target)
    page.close()
    opened.close(verbose=False)
    assert target.stat().st_size < 200_000
