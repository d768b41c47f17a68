"""The files for operators: the unit, the alerts and the dashboard, and the table of reasons."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.meshcase import MeshCase
from twisted_mesh.admin.metrics import Metrics
from twisted_mesh.errors import Reason

ROOT = Path(__file__).parent.parent.parent
OPERATIONS = ROOT / "docs" / "operations"
PAGE = (ROOT / "docs" / "operations.rst").read_text()
_METRIC = re.compile(r"\bmesh_\w+")


class OperationsTests(MeshCase):
    def test_the_alerts_and_the_dashboard_name_metrics_that_there_are(self) -> None:
        a, _ = self.linked(self.node(), self.node(), after=1)
        text = Metrics(a.status).text().decode()
        there = set(re.findall(r"^(mesh_\w+)", text, flags=re.M))
        there |= set(re.findall(r"^# TYPE (mesh_\w+)", text, flags=re.M))
        rules = re.findall(r"expr: (.*)", (OPERATIONS / "rules.yml").read_text())
        panels = json.loads((OPERATIONS / "grafana.json").read_text())["panels"]
        asked = [*rules, *(target["expr"] for panel in panels for target in panel["targets"])]
        self.assertEqual(len(rules), 6)
        self.assertEqual({name for each in asked for name in _METRIC.findall(each)} - there, set())

    def test_the_table_has_each_reason(self) -> None:
        _, table = PAGE.split("\nReason  ")
        table, *_ = table.split("\n* **")
        told = re.findall(r"^``(\w+)``,?(?: |$)", table, flags=re.M)
        self.assertEqual(sorted(told), sorted(Reason))

    def test_promtool_takes_the_alerts(self) -> None:
        if (promtool := shutil.which("promtool")) is None:
            self.skipTest("no promtool here")
        done = subprocess.run(
            [promtool, "check", "rules", OPERATIONS / "rules.yml"], capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_promtool_takes_the_metrics(self) -> None:
        if (promtool := shutil.which("promtool")) is None:
            self.skipTest("no promtool here")
        a, b = self.linked(self.node(label="web"), self.node(), after=1)
        a.send("fire", receipt=True)
        billing = a.messages(name="billing")
        self.send(b, "fire", after=1)
        text = Metrics(a.status).text()
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""))
        billing.close()

    def test_systemd_takes_the_unit(self) -> None:
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze here")
        text = (OPERATIONS / "mesh.service").read_text()
        unit = Path(self.mktemp()).absolute()
        unit.mkdir()
        unit /= "mesh.service"
        unit.write_text(text.replace("/opt/mesh/.venv/bin/mesh", sys.executable))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
