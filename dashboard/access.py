"""Who may do what: optional sign-in by OpenID Connect, and the roles of editor and viewer.

Without an `[auth]` section in Streamlit's secrets.toml nobody signs in and everybody may do everything. With one,
nothing is shown before the provider has told who somebody is, and `[roles]` says what they may do:

    [roles]
    editors = ["ada@example.com", "group:marquee-editors"]    # may change everything
    viewers = ["@example.com"]                                # may read every page
    claim = "groups"    # where the provider's token holds the groups; "realm_access.roles" looks one step deeper
    hours = 24          # how long a sign-in holds

Who is on neither list sees nothing. Both are read again for each click, so who is taken off loses the role with it. A
change is refused where it is made (data/permission.py), whatever a browser sends: that buttons are disabled is for the
eye. What cannot be understood, of either section, lets nobody in.
"""

import html
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import streamlit as st
from streamlit import runtime
from streamlit.errors import StreamlitSecretNotFoundError
from streamlit.runtime.scriptrunner import get_script_run_ctx

from data import permission
from data.errors import UserError

EDITOR, VIEWER = "editor", "viewer"
HOURS = 24.0
OPEN_TO_ALL = "No sign-in is set up: whoever reaches this address may change everything."
_NEEDED = ("client_id", "client_secret", "server_metadata_url")
_SHORTEST_SECRET = 32  # characters: who guesses it can sign in as anybody
_RETURN = "marquee_return"  # the cookie with the address that was asked for before the sign-in
_log = logging.getLogger("dashboard")
_was_set_up = False  # in this process; a file that is being written may lack its sections for a moment
_was_said = False


class Visitor(NamedTuple):
    """Whose session it is."""

    role: str  # EDITOR, VIEWER, or "" for who sees nothing
    name: str  # as the provider tells it; "" where nobody has signed in


EVERYBODY, NOBODY = Visitor(EDITOR, ""), Visitor("", "")


# Who it is -----------------------------------------------------------------------------------------------------------


def visitor() -> Visitor:
    """Who looks at the page now.

    Raises:
        UserError: sign-in is set up in a way that cannot be understood.
    """
    auth, roles = _sections()
    if auth is None:
        return EVERYBODY
    user = st.user.to_dict()
    if not user.get("is_logged_in") or _is_too_old(user, roles):
        return NOBODY
    name = next((str(user[key]) for key in ("email", "name", "sub") if user.get(key)), "somebody")
    return Visitor(role_of(user, roles), name)


def _sections() -> tuple[Mapping[str, Any] | None, Mapping[str, Any]]:
    """`[auth]`, None where sign-in is not set up, and `[roles]`."""
    global _was_set_up
    try:
        secrets = st.secrets.to_dict()
    except StreamlitSecretNotFoundError:
        if any(Path(path).exists() for path in st.get_option("secrets.files")):
            raise UserError("secrets.toml cannot be read, so nobody can sign in: mend it.") from None
        secrets = {}
    auth, roles = secrets.get("auth"), secrets.get("roles")
    if auth is None:
        if _was_set_up:
            raise UserError("[auth] has gone from secrets.toml: put it back, or restart to go on without sign-in.")
        if roles is not None:
            raise UserError("secrets.toml has [roles] but no [auth]: add how people sign in, or take [roles] out.")
        return None, {}
    _was_set_up = True
    if not isinstance(auth, Mapping) or not isinstance(roles or {}, Mapping):
        raise UserError("[auth] and [roles] of secrets.toml must be sections: write them as docs/access.md shows.")
    return auth, roles or {}


def _is_too_old(user: Mapping[str, Any], roles: Mapping[str, Any]) -> bool:
    hours = roles.get("hours", HOURS)
    if not isinstance(hours, int | float) or not hours > 0:
        raise UserError(f"hours of [roles] is {hours!r}: give how many hours a sign-in holds.")
    try:
        return time.time() - float(user["iat"]) > hours * 3600
    except (KeyError, TypeError, ValueError):  # a token that does not say when it was made is none of OpenID Connect
        return True


def role_of(user: Mapping[str, Any], roles: Mapping[str, Any]) -> str:
    """The role that `[roles]` gives to who has signed in: EDITOR, VIEWER or "".

    Args:
        user: the claims of the provider's token.
        roles: `editors` and `viewers` are lists of e-mail addresses, "@domain", "group:NAME" and "*" (everybody who can
            sign in); an address that the provider calls unverified is nobody's.

    Raises:
        UserError: an entry cannot be understood.

    >>> role_of({"email": "Ada@example.com"}, {"editors": ["ada@example.com"], "viewers": ["@example.com"]})
    'editor'
    >>> role_of({"email": "bob@example.com"}, {"editors": ["ada@example.com"], "viewers": ["@example.com"]})
    'viewer'
    >>> role_of({"email": "eve@example.com.evil.org"}, {"viewers": ["@example.com"]})
    ''
    """
    if unknown := set(roles) - {"editors", "viewers", "claim", "hours"}:
        raise UserError(f"[roles] has an unknown setting '{min(unknown)}': use editors, viewers, claim and hours.")
    mine = {"*", *(f"group:{name}" for name in _groups(user, str(roles.get("claim", "groups"))))}
    address = str(user.get("email") or "").strip().lower()
    if address.count("@") == 1 and user.get("email_verified", True) not in (False, "false"):
        mine |= {address, "@" + address.partition("@")[2]}
    found = ""
    for role, key in ((VIEWER, "viewers"), (EDITOR, "editors")):
        if any(entry in mine for entry in _entries(roles, key)):
            found = role
    return found


def _groups(user: Mapping[str, Any], claim: str) -> Sequence[str]:
    value: Any = user
    for part in claim.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return [value] if isinstance(value, str) else [str(one) for one in value] if isinstance(value, list) else []


def _entries(roles: Mapping[str, Any], key: str) -> list[str]:
    given = roles.get(key, [])
    if not isinstance(given, list) or not all(isinstance(entry, str) for entry in given):
        raise UserError(f'{key} of [roles] must be a list, such as {key} = ["ada@example.com", "@example.com"].')
    entries = [entry if entry.startswith("group:") else entry.strip().lower() for entry in given]
    for entry in entries:
        if not (entry == "*" or entry.startswith("group:") or entry.count("@") == 1):
            raise UserError(f"{key} of [roles] has '{entry}': give an address, '@domain', 'group:NAME' or '*'.")
    return entries


# What they may do ----------------------------------------------------------------------------------------------------


def is_admitted() -> bool:
    """Whether there is anything to see for whoever looks at the page."""
    try:
        return visitor().role != ""
    except UserError:
        return False


def may_edit() -> bool:
    """Whether whoever looks at the page may change things."""
    try:
        return visitor().role == EDITOR
    except UserError:
        return False


def must_edit() -> None:
    """Refuse a change that somebody asks for who may not make it.

    Raises:
        UserError: saying why.
    """
    if get_script_run_ctx() is None and not runtime.exists():
        return  # a command, and nobody's session
    role, name = visitor()
    if role == VIEWER:
        raise UserError(f"You are signed in as a viewer ({name}): nothing was changed. Ask an editor to do this.")
    if role != EDITOR:
        raise UserError("Nothing was changed: sign in again to go on.")


permission.ask_first(must_edit)


def button(label: str, *, disabled: bool = False, **how: Any) -> bool:
    """`st.button` for what changes something: disabled for a viewer."""
    return st.button(label, disabled=disabled or not may_edit(), **how)


def viewer_told(what: str) -> bool:
    """Whether a viewer looks at the page, who is then told in a line what is left to editors.

    >>> viewer_told("train and score")
    False
    """
    if may_edit():
        return False
    st.html(f'<p class="mq-muted mq-small" role="note">You are signed in as a viewer: editors {html.escape(what)}.</p>')
    return True


def say_open() -> None:
    """A line on the page that nobody has to sign in, where that is so."""
    if _sections()[0] is None:
        st.caption(f"{OPEN_TO_ALL} The README's Signing in says how to change that.")


def warn_once() -> None:
    """Say it in the server's log, the first time that anybody looks at the dashboard."""
    global _was_said
    if not _was_said and may_edit() and visitor() is EVERYBODY:
        _log.warning(OPEN_TO_ALL)
    _was_said = True


# Pages ---------------------------------------------------------------------------------------------------------------


def door() -> None:
    """All that somebody sees who is not admitted: how to sign in, or why that does not help."""
    with st.container(key="door", horizontal_alignment="center"):
        st.html(f'<h1><img src="app/static/logo.svg" alt="Marquee" height="36"></h1>{_REMEMBER}',
                unsafe_allow_javascript=True)  # fmt: skip
        try:
            who, providers = visitor(), _providers()
        except UserError as mistake:
            st.html(f'<p role="alert">{html.escape(str(mistake))}</p>')
            return
        if who.name:
            st.html(
                f"<p>You are signed in as <b>{html.escape(who.name)}</b>, and that address has no part in this "
                "dashboard. Whoever runs it can add it to the viewers or editors.</p>"
            )
            st.button("Sign in as somebody else", type="primary", on_click=st.logout, key="door-leave")
            return
        st.html("<p>Sign in to see what is on.</p>")
        for provider in providers:
            label = "Sign in" if provider is None else f"Sign in with {provider.capitalize()}"
            st.button(label, type="primary", on_click=st.login, args=(provider,), key=f"door-{provider}")


# The address is kept for ten minutes: the provider's answer always leads to the first page.
_REMEMBER = (
    f"<script>document.cookie = '{_RETURN}=' + encodeURIComponent(location.pathname + location.search) + "
    "'; path=/; max-age=600; samesite=lax'</script>"
)
_FORGET = f"<script>document.cookie = '{_RETURN}=; path=/; max-age=0; samesite=lax'</script><span hidden></span>"


def _providers() -> list[str | None]:
    """Names of the providers that somebody may sign in with; None is the one that has no name.

    Raises:
        UserError: sign-in cannot work as it is set up.
    """
    auth = _sections()[0] or {}
    try:
        import authlib  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("Signing in needs Authlib: pip install -c constraints.txt -e '.[auth]'") from None
    named = [name for name, section in auth.items() if isinstance(section, Mapping) and name != "client_kwargs"]
    sections: dict[str | None, Any] = {name: auth[name] for name in named} or {None: auth}
    missing = [key for section in sections.values() for key in _NEEDED if not section.get(key)]
    missing += [key for key in ("redirect_uri", "cookie_secret") if not auth.get(key)]
    if missing:
        raise UserError(f"[auth] of secrets.toml lacks {missing[0]}, so nobody can sign in: add it.")
    if len(str(auth["cookie_secret"])) < _SHORTEST_SECRET:
        raise UserError(
            f"cookie_secret of [auth] is shorter than {_SHORTEST_SECRET} characters, so it could be guessed: make one "
            "with python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    # Streamlit takes an identity only at the address that it was given for.
    home, here = (urlsplit(str(address or "")) for address in (auth["redirect_uri"], st.context.url))
    home = home._replace(netloc=home.netloc.replace("{port}", str(st.get_option("server.port"))))
    if here.netloc and (home.scheme, home.netloc) != (here.scheme, here.netloc):
        raise UserError(f"Signing in works at {home.scheme}://{home.netloc} alone, as redirect_uri says: open that.")
    return list(sections)


def account() -> None:
    """Who is signed in, as what, and the way out: at the top right of every page; nothing without sign-in."""
    role, name = visitor()
    if not name:
        return
    from dashboard.page import plain  # which imports this module

    with st.container(key="account", gap=None):
        with st.popover(plain(name)):  # style.css shows its first letter
            st.html(f'<p style="margin:0;overflow-wrap:anywhere"><b>{html.escape(name)}</b><br>Signed in as {role}</p>')
            st.button("Sign out", icon=":material/logout:", on_click=st.logout, key="account-leave")
        st.html(_FORGET, unsafe_allow_javascript=True)


def go_back(pages: Sequence[Any], chosen: Any) -> None:
    """Right after the sign-in, which ends at the first page: go to the page that was asked for before.

    Args:
        pages: those of the navigation; no other address is followed.
        chosen: the one among them that is open.
    """
    asked = st.context.cookies.get(_RETURN)
    if not asked or "returned" in st.session_state or not visitor().name:
        return
    st.session_state["returned"] = True
    if chosen.url_path or st.query_params:
        return
    address = urlsplit(unquote(asked))
    wanted = address.path.rstrip("/").rpartition("/")[2]
    page = next((page for page in pages if page.url_path == wanted), None)
    if page is not None and (page.url_path or address.query):
        st.switch_page(page, query_params=parse_qsl(address.query))
