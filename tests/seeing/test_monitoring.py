"""The exporter, the dashboard and the alerts of the guide, in a Prometheus that runs."""

import http
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import redset
from pages import blocks
from programs import program
from redset.metrics import Collector
from servers import Server, free_port, wait_until

DOCS = Path(__file__).parents[2] / "docs" / "howto"
GUIDE = DOCS / "metrics.md"
ALERTS = DOCS / "monitoring" / "alerts.yml"
DASHBOARD = json.loads((DOCS / "monitoring" / "dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
ALERT_NAMES = {"RedsetLag", "RedsetDeadLetters", "RedsetLeasesExpire", "RedsetNotClaimed", "RedsetMemory"}
#: Seconds that a Prometheus may take until it has scraped.
PATIENCE = 60


def names_of(text: str) -> set[str]:
    return set(re.findall(r"\bredset_\w+", text))


@pytest.fixture
def metrics(raw: Any) -> set[str]:
    """The names of all samples."""
    families = Collector(raw).describe()
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def test_each_metric_of_the_dashboard_is_there(metrics: set[str]) -> None:
    assert len(EXPRESSIONS) > 15
    for expression in EXPRESSIONS:
        assert names_of(expression)
        assert names_of(expression) <= metrics

    (query,) = (one["definition"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query")
    assert names_of(query) <= metrics


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        own = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & places
        places |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_each_metric_of_the_alerts_and_the_guide_is_there(metrics: set[str]) -> None:
    assert names_of(ALERTS.read_text()) <= metrics
    # One stands for all counters.
    assert names_of(GUIDE.read_text()) - {"redset_items_"} <= metrics


def test_the_guide_lists_the_alerts() -> None:
    assert set(re.findall(r"alert: (\w+)", ALERTS.read_text())) == ALERT_NAMES
    assert set(re.findall(r"^\| `(Redset\w+)` \|", GUIDE.read_text(), re.MULTILINE)) == ALERT_NAMES


def test_the_alerts_are_valid() -> None:
    done = subprocess.run([program("promtool"), "check", "rules", ALERTS], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 rules found" in done.stdout


def test_each_alert_fires_when_it_should() -> None:
    tests = ALERTS.with_name("alerts.test.yml")

    done = subprocess.run([program("promtool"), "test", "rules", tests], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for name in ALERT_NAMES if name not in tests.read_text()} == set()


class Prometheus:
    """A Prometheus that scrapes the exporter of the guide."""

    def __init__(self, directory: Path, url: str) -> None:
        files = {block.caption: block.content for block in blocks(GUIDE) if block.kind == "file"}
        scraped, self.port = free_port(), free_port()
        (directory / "exporter.py").write_text(files["exporter.py"])
        (directory / "alerts.yml").write_text(ALERTS.read_text())
        config = files["prometheus.yml"].replace("9108", str(scraped)).replace("15s", "250ms")
        (directory / "prometheus.yml").write_text("global: {evaluation_interval: 250ms}\n" + config)
        self.log = directory / "log"
        environment = os.environ | {
            "PORT": str(scraped),
            "REDSET_URL": url,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        commands = (
            [sys.executable, "exporter.py"],
            [
                program("prometheus"),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
        )
        with self.log.open("w") as log:
            self.processes = [
                subprocess.Popen(command, cwd=directory, env=environment, stdout=log, stderr=log)
                for command in commands
            ]

    def ask(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            # Not ready yet, or a query that it does not understand.
            if error.code == http.HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise AssertionError(error.read()) from error

    def value(self, query: str) -> float | None:
        """The value of the only series of a query; None without one, and before it answers."""
        try:
            found = self.ask("query", query=query)["result"]
        except OSError:
            assert all(process.poll() is None for process in self.processes), self.log.read_text()
            return None
        return float(found[0]["value"][1]) if found else None

    def wait_for(self, query: str, value: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.value(query) != value:
            assert time.monotonic() < deadline, (query, self.value(query), self.log.read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server("valkey-9.1")
    yield server
    server.stop()


@pytest.fixture
def prometheus(server: Server, tmp_path: Path) -> Iterator[Prometheus]:
    found = Prometheus(tmp_path, server.url)
    yield found
    found.stop()


@pytest.mark.no_cover
def test_a_prometheus_scrapes_the_exporter_of_the_guide(server: Server, prometheus: Prometheus) -> None:
    client = server.client()
    jobs = redset.SortedSet(client, "jobs")
    odd = redset.TimeSortedSet(client, 'quo"te\n')
    jobs.update("abc")
    odd.add("a")

    prometheus.wait_for('redset_items{set="jobs",state="waiting"}', 3)
    prometheus.wait_for('redset_items{set="quo\\"te\\\\x0a",state="waiting"}', 1)
    for _ in range(3):
        jobs.pop()
    prometheus.wait_for('redset_items_taken_total{set="jobs"}', 3)
    prometheus.wait_for("redset_up", 1)
    prometheus.wait_for("up", 1)

    types = {name.removesuffix("_total"): about[0]["type"] for name, about in prometheus.ask("metadata").items()}
    assert (types["redset_items"], types["redset_items_taken"], types["redset_up"]) == ("gauge", "counter", "gauge")
    for expression in EXPRESSIONS:
        prometheus.ask("query", query=expression.replace("$__rate_interval", "1m").replace("$set", ".*"))
    wait_until(lambda: healths(prometheus) == dict.fromkeys(ALERT_NAMES, "ok"))

    server.kill()
    prometheus.wait_for("redset_up", 0)
    prometheus.wait_for("up", 1)
    prometheus.wait_for('absent(redset_items{set="jobs"})', 1)
    server.restart()
    prometheus.wait_for("redset_up", 1)


def healths(prometheus: Prometheus) -> dict[str, str]:
    """Whether each alert could be evaluated."""
    groups = prometheus.ask("rules")["groups"]
    return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
