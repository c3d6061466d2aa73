"""A dashboard session without a browser: speaks Streamlit's own protocol, so that many fit on one machine.

A browser shows what a page looks like; this one counts: what the script answered, and how long it took.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

ROOT = Path(__file__).resolve().parents[1]
_COMPONENT_EVENTS = "$$STREAMLIT_INTERNAL_KEY_{}__events"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """`streamlit run dashboard`, or another app, on a home."""

    def __init__(self, home: Path, dataset: str, environment: Mapping[str, str], script: str = "dashboard") -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port)]
        self.process = subprocess.Popen(
            [*command, "--server.headless", "true"],
            cwd=ROOT,
            env={**os.environ, "MARQUEE_HOME": str(home), "MARQUEE_DATASET": dataset} | dict(environment),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1)
                return
            except OSError:
                time.sleep(0.05)
        raise TimeoutError("the dashboard did not answer within a minute")

    @property
    def memory_mib(self) -> float:
        """What it holds in memory now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise ValueError("no VmRSS")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@contextmanager
def dashboard(home: Path, dataset: str = "demo", **environment: str) -> Iterator[Server]:
    with app("dashboard", home, dataset, **environment) as server:
        yield server


@contextmanager
def app(script: str, home: Path, dataset: str = "demo", **environment: str) -> Iterator[Server]:
    """Any Streamlit app; it ends with the context."""
    server = Server(home, dataset, environment, script)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


@dataclass
class Answer:
    """What a run of the script drew."""

    seconds: float
    components: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # key: (id, what it was given)
    widgets: dict[str, str] = field(default_factory=dict)  # label: id
    texts: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)


class Visitor:
    """One session, at the home page.

    Args:
        cookies: of a browser that has signed in, by name.
    """

    def __init__(self, url: str, cookies: Mapping[str, str] | None = None) -> None:
        self._open, cookies = ExitStack(), cookies or {}
        token = cookies.get("_streamlit_xsrf")
        self._socket = self._open.enter_context(
            connect(
                url.replace("http", "ws") + "/_stcore/stream",
                subprotocols=[Subprotocol(part) for part in ("streamlit", token) if part],
                origin=Origin(url),
                additional_headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())},
                max_size=None,
                open_timeout=60,
            )
        )
        self._page_hash, self._query, self._url = "", "", url
        self._fragment: dict[str, str] = {}  # element: the fragment that drew it
        self.last, self.session_id = Answer(0.0), ""

    def close(self) -> None:
        self._open.close()

    def open(self, **query: str) -> Answer:
        """The home page as of an address."""
        self._query = urllib.parse.urlencode(query)
        return self._run([], "")

    def act(self, key: str, event: str, value: Any) -> Answer:
        """An event of a component, such as ("billboard-196", "acted", "watch")."""
        element_id, _ = self.last.components[key]
        state = WidgetState(id=_COMPONENT_EVENTS.format(element_id))
        state.json_trigger_value = json.dumps([{"event": event, "value": value}])
        return self._run([state], self._fragment[element_id])

    def click(self, label: str) -> Answer:
        element_id = self.last.widgets[label]
        return self._run([WidgetState(id=element_id, trigger_value=True)], self._fragment[element_id])

    def type(self, label: str, text: str) -> Answer:
        element_id = self.last.widgets[label]
        return self._run([WidgetState(id=element_id, string_value=text)], self._fragment[element_id])

    def _run(self, states: list[WidgetState], fragment: str) -> Answer:
        message = BackMsg()
        message.rerun_script.query_string = self._query
        message.rerun_script.page_script_hash = self._page_hash
        if fragment:  # set to nothing it would still be set
            message.rerun_script.fragment_id = fragment
        message.rerun_script.widget_states.widgets.extend(states)
        message.rerun_script.context_info.url = f"{self._url}/?{self._query}"
        started, answer = time.perf_counter(), Answer(0.0)
        self._socket.send(message.SerializeToString())
        while True:
            got = ForwardMsg()
            got.ParseFromString(self._socket.recv(timeout=120))
            kind = got.WhichOneof("type")
            if kind == "new_session":
                self.session_id = got.new_session.initialize.session_id
            elif kind == "navigation":
                self._page_hash = got.navigation.page_script_hash
            elif kind == "delta":
                self._take(got, answer)
            elif kind == "script_finished" and got.script_finished in (
                ForwardMsg.FINISHED_SUCCESSFULLY,
                ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY,
                ForwardMsg.FINISHED_WITH_COMPILE_ERROR,
            ):
                break
        answer.seconds = time.perf_counter() - started
        self.last = answer
        return answer

    def _take(self, got: ForwardMsg, answer: Answer) -> None:
        delta = got.delta
        if delta.WhichOneof("type") != "new_element":
            return
        element = delta.new_element
        kind = element.WhichOneof("type")
        one = getattr(element, str(kind))
        if kind == "bidi_component":
            key = one.id.split("-", 2)[2]
            answer.components[key] = (one.id, json.loads(one.json) if one.json else {})
            self._fragment[one.id] = delta.fragment_id
        elif kind in ("button", "text_input", "selectbox"):
            answer.widgets[one.label] = one.id
            self._fragment[one.id] = delta.fragment_id
        elif kind == "exception":
            answer.exceptions.append(one.message)
        elif kind in ("html", "markdown", "toast"):
            answer.texts.append(one.body)
