"""Sign-in and roles: who is let in, who may change what, and that a change is refused where it is made."""

import doctest
import html
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dashboard_home as made
import oidc_provider
import pytest
from browser import Tab, settled, violations
from playwright.sync_api import Browser, Page, expect
from streamlit.testing.v1 import AppTest
from test_dashboard_pages import opened, text_of

from benchmarks.visitor import Visitor, dashboard
from dashboard import access
from data import events, home, jobs, replies, runs
from data.dataset import Dataset

AUTH = {
    "redirect_uri": "http://localhost:8501/oauth2callback",
    "cookie_secret": "c" * 64,
    "client_id": "marquee",
    "client_secret": "s",
    "server_metadata_url": "http://localhost/.well-known/openid-configuration",
}
ROLES = {"editors": ["ada@example.com"], "viewers": ["@example.com"]}
APP = Path(access.__file__).parent / "streamlit_app.py"
DOOR = "Sign in to see what is on"


def person(email: str = "bob@example.com", **claims: Any) -> dict[str, Any]:
    return {"is_logged_in": True, "email": email, "iat": time.time(), **claims}


@pytest.fixture(autouse=True)
def _as_if_just_started(marquee_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_was_set_up", False)


@pytest.fixture
def data(small_dataset: Callable[..., Dataset]) -> Dataset:
    found = small_dataset("demo", reviews=20)
    made.write_everything(found)
    return found


# Roles ---------------------------------------------------------------------------------------------------------------


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(access).failed == 0


@pytest.mark.parametrize(
    ("user", "roles", "role"),
    [
        ({"email": "ada@example.com"}, ROLES, "editor"),
        ({"email": " ADA@Example.com"}, ROLES, "editor"),
        ({"email": "bob@example.com", "email_verified": True}, ROLES, "viewer"),
        ({"email": "ada@example.com", "email_verified": False}, ROLES, ""),
        ({"email": "ada@example.com", "email_verified": "false"}, ROLES, ""),
        ({"email": "eve@example.com.evil.org"}, ROLES, ""),
        ({"email": "eve@notexample.com"}, ROLES, ""),
        ({"email": "eve@evil.org@example.com"}, ROLES, ""),
        ({"email": "example.com"}, ROLES, ""),
        ({"email": ["ada@example.com"]}, ROLES, ""),
        ({"email": None, "name": "ada@example.com", "preferred_username": "ada@example.com"}, ROLES, ""),
        ({"email": "ada@example.com"}, {}, ""),
        ({"email": "eve@evil.org"}, {"viewers": ["*"]}, "viewer"),
        ({"groups": ["staff", "marquee"]}, {"editors": ["group:marquee"]}, "editor"),
        ({"groups": "marquee"}, {"editors": ["group:marquee"]}, "editor"),
        ({"groups": ["Marquee"]}, {"editors": ["group:marquee"]}, ""),
        ({"groups": {"marquee": 1}}, {"editors": ["group:marquee"]}, ""),
        ({"email": "group:marquee"}, {"editors": ["group:marquee"]}, ""),
        ({"realm_access": {"roles": ["m"]}}, {"claim": "realm_access.roles", "viewers": ["group:m"]}, "viewer"),
        ({"email": "a@b.c", "groups": ["m"]}, {"viewers": ["group:m"], "editors": ["a@b.c"]}, "editor"),
    ],
)
def test_roles(user: dict[str, Any], roles: dict[str, Any], role: str) -> None:
    assert access.role_of(user, roles) == role


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"editors": "ada@example.com"}, "editors of [roles] must be a list"),
        ({"viewers": ["ada"]}, "viewers of [roles] has 'ada'"),
        ({"editor": ["ada@example.com"]}, "unknown setting 'editor'"),
        ({"hours": "1 day"}, "hours of [roles] is '1 day'"),
    ],
)
def test_roles_that_cannot_be_understood_let_nobody_in(roles: dict[str, Any], said: str) -> None:
    app = door({"auth": AUTH, "roles": {"editors": ["*"]} | roles}, person())
    assert said in html.unescape(text_of(app))
    assert not app.button


# The door ------------------------------------------------------------------------------------------------------------


def door(secrets: dict[str, Any], user: dict[str, Any] | None = None) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.secrets = secrets
    if user is not None:
        app.user = user
    return app.run()


def test_without_sign_in_everybody_may_do_everything_and_the_data_page_says_so(data: Dataset) -> None:
    app = opened("datasets")
    assert access.OPEN_TO_ALL in text_of(app)
    assert not next(button for button in app.button if button.label == "Check this dataset").disabled


@pytest.mark.parametrize(
    "user",
    [
        {},
        {"email": "ada@example.com", "iat": 1e12},
        person("ada@example.com", is_logged_in=False),
        person("ada@example.com", iat=time.time() - 25 * 3600),
        {"is_logged_in": True, "email": "ada@example.com"},  # a token that does not say when it was made
    ],
)
def test_who_has_not_signed_in_sees_one_button(user: dict[str, Any]) -> None:
    app = door({"auth": AUTH, "roles": ROLES}, user)
    assert DOOR in text_of(app)
    assert [button.label for button in app.button] == ["Sign in"]


def test_who_is_on_no_list_is_told_and_may_leave() -> None:
    app = door({"auth": AUTH, "roles": ROLES}, person("eve@<b>evil</b>.org"))
    assert "You are signed in as <b>eve@&lt;b&gt;evil&lt;/b&gt;.org</b>, and that address has no part" in text_of(app)
    assert [button.label for button in app.button] == ["Sign in as somebody else"]


def test_a_provider_with_a_name_has_it_on_its_button() -> None:
    shared = {key: AUTH[key] for key in ("redirect_uri", "cookie_secret")}
    own = {key: AUTH[key] for key in ("client_id", "client_secret", "server_metadata_url")}
    app = door({"auth": {**shared, "google": own, "okta": own}, "roles": ROLES}, {})
    assert [button.label for button in app.button] == ["Sign in with Google", "Sign in with Okta"]


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({"auth": {}, "roles": ROLES}, "[auth] of secrets.toml lacks client_id"),
        ({"auth": AUTH | {"redirect_uri": ""}}, "lacks redirect_uri"),
        ({"auth": AUTH | {"cookie_secret": "short"}}, "shorter than 32 characters"),
        ({"auth": "google"}, "must be sections"),
        ({"roles": ROLES}, "has [roles] but no [auth]"),
    ],
)
def test_a_sign_in_that_is_half_set_up_lets_nobody_in(secrets: dict[str, Any], said: str) -> None:
    app = door(secrets, {})
    assert said in html.unescape(text_of(app))
    assert not app.button


def test_a_sign_in_that_was_set_up_does_not_go_unnoticed() -> None:
    """A file that is being written may be empty for a moment: nobody is let in by that."""
    door({"auth": AUTH, "roles": ROLES}, {})
    app = door({"other": 1}, {})
    assert "[auth] has gone from secrets.toml" in html.unescape(text_of(app))


# What a viewer may not -----------------------------------------------------------------------------------------------


def everything(run: str) -> None:
    """A script that calls, as a browser's clicks would, every function that changes something."""
    import datetime as dt
    import io
    import sys

    import pandas as pd
    import streamlit as st

    from dashboard import (
        batch,
        choices,
        deciding,
        forgetting,
        job_list,
        offers,
        onboarding,
        run_list,
        scoring,
        slider,
        store,
        uploads,
        welcome,
    )
    from data import events, jobs, replies
    from data.errors import UserError
    from data.events import Event, Review
    from recsys import pages
    from recsys.rows import cards

    data = store.dataset("demo")
    quick = [sys.executable, "-c", "pass"]
    before = [job.id for job in jobs.list_jobs()]
    many = pd.DataFrame({"review_id": ["r00002"], "status": "approved", "text": "Thank you.", "run_id": None})
    moment = replies.decisions("demo")["decided_at"].iloc[0].to_pydatetime()
    page = pages.Page(cards(["i0"]), [])
    offered = offers.offer(data, "u1", page, None)

    def new_upload() -> None:
        uploads.keep(uploads.new_folder(), "items", "a.csv", io.BytesIO(b"a"))

    asked = {
        "watch": lambda: choices.do(data, Event("u1", "watch", "i1"), "Watched"),
        "undo": lambda: choices._undo(data, "kept", ("u1", None)),
        "review": lambda: events.write_review(data, Review("u1", "i1", "Fine.")),
        "new member": lambda: welcome.add(data, "Zoe", ["i1", "i2", "i3"]),
        "impression": lambda: offers.shown(data, "u1", offered),
        "click": lambda: offers.clicked(data, "u1", offered, "billboard", "i0"),
        "approve": lambda: replies.decide("demo", "r00001", "approved", "Thank you."),
        "approve many": lambda: replies.decide_all("demo", many, dt.datetime.now(dt.UTC)),
        "reopen many": lambda: replies.undo_all("demo", moment),
        "reopen": lambda: deciding.undo("demo", "r00000"),
        "use a run": lambda: run_list._use(data, "recommender", "demo", run),
        "start a job": lambda: job_list.start("a job", quick, "a-lock"),
        "train": lambda: batch.train("demo", "recommender", "recsys/configs/quick.yaml"),
        "score": lambda: scoring.start("demo", "recommender", "page"),
        "measure": lambda: slider._start("demo"),
        "prepare": lambda: onboarding.start_preparing("other", "page"),
        "forget": lambda: forgetting._go(data, "u1", False),
        "cancel": lambda: jobs.cancel(before[0]),
        "upload": new_upload,
    }
    wrong = {}
    for name, ask in asked.items():
        try:
            ask()
        except UserError as mistake:
            wrong[name] = str(mistake)
    st.session_state["wrong"] = wrong


def traces(data: Dataset) -> dict[str, Any]:
    return {
        "events": events.events("demo")["event_id"].tolist(),
        "reviews": len(events.reviews("demo")),
        "replies": replies.decisions("demo")[["review_id", "status"]].to_numpy().tolist(),
        "run": (runs.current_run("demo", "recommender") or Path()).name,
        "jobs": [job.id for job in jobs.list_jobs()],
        "files": sorted(str(p) for p in home.home().rglob("*") if p.is_file() and "marquee.db" not in p.name),
    }


@pytest.mark.parametrize("who", ["viewer", "nobody", "stranger", "editor"])
def test_only_an_editor_changes_anything_whatever_is_sent(
    data: Dataset, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.scorer.open_run", lambda run: run)  # these runs hold no weights
    for starter in ("slider", "batch", "scoring", "onboarding", "forgetting"):
        monkeypatch.setattr(f"dashboard.{starter}.sys", SimpleNamespace(executable="/bin/true"))
    user = {"viewer": person(), "stranger": person("eve@evil.org"), "editor": person("ada@example.com"), "nobody": {}}
    other = "20240601-120000-cd34"
    folder = home.runs("demo", "recommender")
    (folder / other).mkdir()
    for path in (folder / made.RUN).iterdir():
        if path.is_file():
            (folder / other / path.name).write_bytes(path.read_bytes())
    events.record(data, [events.Event("u1", "watch", "i5", event_id="kept")])
    replies.decide("demo", "r00000", "dismissed")
    first = jobs.start("wait", ["sleep", "60"])
    before = traces(data)
    app = AppTest.from_function(everything, default_timeout=120, args=(other,))
    app.secrets, app.user = {"auth": AUTH, "roles": ROLES}, user[who]
    app.run()
    assert not app.exception
    if who == "editor":
        now = traces(data)
        assert "kept" not in now["events"]
        assert len(now["events"]) == 1 + 3 + 2  # watched, three liked by the new member, an impression and a click
        assert (now["reviews"], now["run"], now["replies"]) == (
            1,
            other,
            [["r00001", "approved"], ["r00002", "approved"]],
        )
        assert len(now["jobs"]) >= 1 + 5  # to train and to score take turns: the second is refused if it comes too soon
        assert not app.session_state["wrong"]
    else:
        assert traces(data) == before
        assert not (first.log.parent / "cancel").exists()
    for job in jobs.list_jobs():
        jobs.cancel(job.id)


def test_a_download_of_whole_tables_is_refused_too(data: Dataset) -> None:
    app = opened("datasets")
    assert app.get("download_button")
    app.secrets, app.user = {"auth": AUTH, "roles": ROLES}, person()
    app.run()
    assert not app.get("download_button")
    assert "You are signed in as a viewer: editors check, download" in text_of(app)


@pytest.mark.parametrize(
    ("page", "query", "labels"),
    [
        ("datasets", {}, {"Check this dataset", "Forget a member", "Train again", "Score"}),
        ("models", {}, set()),
        ("reviews", {}, {"Approve", "Dismiss"}),
        ("title", {"title": "i3", "member": "u1"}, set()),
    ],
)
def test_pages_of_a_viewer_say_so_and_offer_no_change(
    data: Dataset, page: str, query: dict[str, str], labels: set[str]
) -> None:
    app = opened(page, **query)
    before = {button.label for button in app.button}
    assert labels <= before
    app.secrets, app.user = {"auth": AUTH, "roles": ROLES}, person()
    app.run()
    assert not app.exception
    assert "You are signed in as a viewer" in text_of(app)
    free = {button.label for button in app.button if not button.disabled}
    assert not free & {*labels, "Watch", "My list", "Like", "Not for me", "Send", "Import"}


def test_an_address_names_no_path(data: Dataset) -> None:
    up = "../../../../etc/passwd"
    for page, query in (("title", {"title": up}), ("today", {"dataset": up}), ("title", {"title": "i3", "member": up})):
        app = opened(page, **query)
        assert not app.exception
        assert "root:" not in text_of(app)
    assert "Title 3" in text_of(app)
    assert sorted(p.name for p in (home.home() / "tables").iterdir() if p.is_dir()) == ["demo"]


# In a browser --------------------------------------------------------------------------------------------------------

PEOPLE = {
    "Ada": {"email": "ada@example.com", "email_verified": True},
    "Bob": {"email": "bob@example.com"},
    "Eve": {"email": "eve@evil.org"},
}


@pytest.fixture
def served(data: Dataset, marquee_home: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A dashboard with sign-in at a provider of our own, and the file that says who is what."""
    secrets = tmp_path / "secrets.toml"
    with oidc_provider.provider(PEOPLE) as provider:
        # Streamlit puts its own port in.
        secrets.write_text(provider.secrets_toml("http://127.0.0.1:{port}", _toml(ROLES)))
        with dashboard(
            marquee_home, "demo", STREAMLIT_SECRETS_FILES=str(secrets), STREAMLIT_SERVER_MAX_UPLOAD_SIZE="1"
        ) as server:
            provider.redirect_uris.add(f"{server.url}/oauth2callback")
            yield server.url, secrets


def _toml(roles: dict[str, list[str]]) -> str:
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in roles.items())


def sign_in(page: Page, name: str) -> None:
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("link", name=name).click()


def upload(url: str, session_id: str) -> str:
    """What the server says to a file that it refuses."""
    request = urllib.request.Request(f"{url}/_stcore/upload_file/{session_id}/1", b"a" * 1000, method="PUT")
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request)
    return answer.value.read().decode()


def happened(url: str, tab: Tab) -> int:
    """Send the click on Watch that a billboard has, with the cookies of a browser; how many watches are kept then."""
    cookies = {str(one.get("name")): str(one.get("value")) for one in tab.context.cookies()}
    visitor = Visitor(url, cookies)
    billboard = next(key for key in visitor.open(member="u1").components if key.startswith("billboard-"))
    visitor.act(billboard, "acted", "watch")
    visitor.close()
    return len(events.events("demo", kinds=("watch",)))


@pytest.mark.slow
def test_signing_in_as_an_editor_and_as_a_viewer(chromium: Browser, served: tuple[str, Path]) -> None:
    url, secrets = served
    stranger = Visitor(url)
    answer = stranger.open(member="u1")
    assert not answer.components
    assert DOOR in " ".join(answer.texts)
    assert "Title" not in " ".join(answer.texts)
    assert upload(url, stranger.session_id) == "This page has no form for files."
    stranger.close()
    for path in ("..%2fstreamlit_app.py", "%2e%2e/streamlit_app.py", "..%5cstreamlit_app.py"):
        with pytest.raises(urllib.error.HTTPError, match="40"):
            urllib.request.urlopen(f"{url}/app/static/{path}")

    ada = Tab(chromium, url, 390, 844)
    page = ada.open("title?title=i3&member=u1")
    expect(page.get_by_text(DOOR)).to_be_visible()
    assert page.get_by_test_id("stTopNavLink").or_(page.get_by_test_id("stSidebarNavLink")).count() == 0
    assert violations(page) == []
    assert ada.sideways() <= 0
    sign_in(page, "Ada")
    expect(page.get_by_role("heading", name="Title 3")).to_be_visible()  # where she was going
    assert "title=i3" in page.url
    page.get_by_role("button", name="Like", exact=True).click()
    expect(page.locator(".mq-toast")).to_contain_text("You like")
    assert violations(page) == []
    assert happened(url, ada) == 1

    ada.open("data").get_by_role("tab", name="Import your own").click()
    choosers = page.locator('input[type="file"]')
    for place, name in enumerate(("interactions.csv", "items.csv")):
        choosers.nth(place).set_input_files({"name": name, "mimeType": "text/csv", "buffer": b"user_id,x\n" * 90_000})
        expect(page.get_by_text(name, exact=True)).to_have_count(2)  # in the form and over its columns
        settled(page)  # Streamlit loses the address to upload to when a run begins just then
    choosers.nth(2).set_input_files({"name": "users.csv", "mimeType": "text/csv", "buffer": b"user_id,x\n" * 90_000})
    expect(page.get_by_text(re.compile("413|too large", re.IGNORECASE))).to_be_visible()

    bob = Tab(chromium, url, 1280, 900, "light")
    page = bob.open("title?title=i3&member=u1")
    sign_in(page, "Bob")
    expect(page.get_by_text("You are signed in as a viewer: editors watch, rate and list")).to_be_visible()
    expect(page.get_by_role("button", name="Like", exact=True)).to_have_count(0)
    seen = len(events.events("demo"))
    assert happened(url, bob) == 1  # hers; his forged click is refused
    bob.go("Home")
    expect(page.get_by_role("button", name="See details of")).to_be_visible()
    expect(page.get_by_role("button", name="Add a member")).to_have_count(0)
    expect(page.get_by_text("nothing was changed")).to_have_count(0)
    assert len(events.events("demo")) == seen  # no impressions of what a viewer looks at
    assert violations(page) == []

    secrets.write_text(secrets.read_text().replace('"@example.com"', '"@example.org"'))
    time.sleep(1)  # Streamlit looks at its secrets five times a second
    page.get_by_text("Today", exact=True).click()
    expect(page.get_by_text("has no part in this dashboard")).to_be_visible()
    page.get_by_role("button", name="Sign in as somebody else").click()
    expect(page.get_by_text(DOOR)).to_be_visible()

    ada.page.locator(".st-key-account button").click()
    ada.page.get_by_role("button", name="Sign out").click()
    expect(ada.page.get_by_text(DOOR)).to_be_visible()
    ada.close()
    bob.close()
