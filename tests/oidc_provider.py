"""A small OpenID Connect provider on this machine: discovery, a page to choose who one is, tokens, keys, the way out.

It checks what a provider checks: the client and its secret, the redirect address, that a code is used once, and PKCE.
"""

import base64
import hashlib
import html
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "marquee", "s" * 40


class Provider:
    """Args:
    people: name on the button to the claims of that person's token.
    """

    def __init__(self, people: Mapping[str, Mapping[str, Any]]) -> None:
        self.people, self.codes = people, dict[str, dict[str, str]]()
        self.redirect_uris: set[str] = set()
        self.signed_out = 0
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider._get(self)

            def do_POST(self) -> None:
                provider._token(self)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def secrets_toml(self, dashboard: str, roles: str) -> str:
        """What a dashboard at that address needs to let these people in; remembers the address."""
        self.redirect_uris.add(f"{dashboard}/oauth2callback")
        return (
            f'[auth]\nredirect_uri = "{dashboard}/oauth2callback"\ncookie_secret = "{secrets.token_hex(32)}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.url}/.well-known/openid-configuration"\n[roles]\n{roles}\n'
        )

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        query = {key: values[0] for key, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            _json(request, {
                "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/jwks",
                "end_session_endpoint": f"{self.url}/logout", "response_types_supported": ["code"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            })  # fmt: skip
        elif address.path == "/jwks":
            _json(request, {"keys": [self.key.as_dict(private=False)]})
        elif address.path == "/authorize" and query["redirect_uri"] in self.redirect_uris:
            if "who" in query:
                code = secrets.token_urlsafe(24)
                self.codes[code] = query
                back = urlencode({"code": code, "state": query["state"]})
                _redirect(request, f"{query['redirect_uri']}?{back}")
                return
            links = "".join(
                f'<p><a href="{html.escape(request.path)}&amp;who={quote(name)}">{html.escape(name)}</a></p>'
                for name in self.people
            )
            _answer(request, 200, "text/html", f"<h1>Who are you?</h1>{links}".encode())
        elif address.path == "/logout" and query["post_logout_redirect_uri"] in self.redirect_uris:
            self.signed_out += 1
            _redirect(request, query["post_logout_redirect_uri"])
        else:
            _answer(request, 400, "text/plain", b"no such address, or not for this client")

    def _token(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if request.headers["Authorization"] != basic or asked is None or asked["code_challenge"] != proof:
            _answer(request, 400, "application/json", b'{"error": "invalid_grant"}')
            return
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "sub": asked["who"], "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], **self.people[asked["who"]]}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        _json(request, {"access_token": secrets.token_hex(8), "token_type": "Bearer", "id_token": token})


def _json(request: BaseHTTPRequestHandler, content: Mapping[str, Any]) -> None:
    _answer(request, 200, "application/json", json.dumps(content).encode())


def _redirect(request: BaseHTTPRequestHandler, to: str) -> None:
    request.send_response(302)
    request.send_header("Location", to)
    request.end_headers()


def _answer(request: BaseHTTPRequestHandler, status: int, kind: str, content: bytes) -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)


@contextmanager
def provider(people: Mapping[str, Mapping[str, Any]]) -> Iterator[Provider]:
    made = Provider(people)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
