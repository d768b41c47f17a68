"""The tables and the plot that show measurements."""

from xml.etree import ElementTree

from docutils.core import publish_doctree
from docutils.nodes import table
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.cast import ROOT
from benchmarks.catalogue import SYSTEMS, Cover
from benchmarks.figures import Figures, Record, Results, Spread
from benchmarks.plot import svg
from benchmarks.scenarios import SCENARIOS
from benchmarks.table import grid, losses, noisy, page, rounded

TRANSFER: Figures = {"rate": 2e6, "lost": 0.0, "cost": 0.5, "peak": 2**25}


def results(*records: Record, **skipped: str) -> Results:
    """The results of one run of the benchmarks."""
    return Results({"cores": "2"}, skipped, list(records))


class WordsTests(SynchronousTestCase):
    def test_three_digits_count(self) -> None:
        for value, text in {
            0: "0",
            0.4567: "0.46",
            9.876: "9.88",
            45.67: "45.7",
            456.7: "457",
            1_234_567: "1,230,000",
            999_999: "1,000,000",
        }.items():
            self.assertEqual(rounded(value), text)

    def test_noise_stands_behind_the_median(self) -> None:
        self.assertEqual(noisy(Spread(2000, 1000, 3000), 10), "200 (100-300)")
        self.assertEqual(noisy(Spread(2, 2, 2)), "2.00")
        self.assertEqual(noisy(None), "-")

    def test_losses(self) -> None:
        for spread, text in (
            (None, "-"),
            (Spread(0, 0, 0), "none"),
            (Spread(0.25, 0.25, 0.25), "25 %"),
            (Spread(0.25, 0, 0.5), "25 % (0 %-50 %)"),
            (Spread(0.00001, 0, 0.00002), "0.001 % (0 %-0.002 %)"),
            (Spread(0, -0.01, 0), "1.00% twice"),
        ):
            self.assertEqual(losses(spread), text)

    def test_a_grid_is_as_wide_as_what_stands_in_it(self) -> None:
        self.assertEqual(grid([["a", "b"], ["long", "c"]]), "====  =\na     b\n====  =\nlong  c\n====  =")


class PageTests(SynchronousTestCase):
    def test_each_scenario_that_was_played_is_a_table_without_a_complaint_of_the_parser(self) -> None:
        # A figure that is missing is a dash.
        played = [(each.name, next(filter(each.suits, SYSTEMS.values()))) for each in SCENARIOS.values()]
        records = [Record(1, name, system.name, TRANSFER | {"p50": 1e-3}) for name, system in played]
        text = page(results(*records, nats="no `server` at *all*"))
        tree = publish_doctree(text, settings_overrides={"halt_level": 2})
        self.assertEqual(len(list(tree.findall(table))), len(SCENARIOS))
        for scenario in SCENARIOS.values():
            self.assertIn(f"**{scenario.title}**", text)
        self.assertIn("* nats: not measured: no server at all", text)

    def test_a_ratio_is_told_beside_raw_and_nats(self) -> None:
        records = [
            Record(1, "hop-64", name, TRANSFER | {"rate": rate})
            for name, rate in {"raw": 1e6, "mesh": 5e5, "nats": 2.5e5}.items()
        ]
        records.append(Record(1, "hop-64", "nats-tls", TRANSFER | {"rate": 2e5, "cost": 2.0}))
        (line,) = [line for line in page(results(*records)).splitlines() if line.startswith("mesh  ")]
        self.assertEqual(
            line.split(),
            ["mesh", "TLS,", "signed", "500,000", "0.50", "2.00", "none", "0.50", "0.25", "32.0"],
        )

    def test_the_best_covered_stand_first(self) -> None:
        covers = [system.cover for system in SYSTEMS.values()]
        self.assertEqual(covers, sorted(covers, key=list(Cover).index))
        records = [Record(1, "hop-64", name, TRANSFER) for name in ("zmq", "nats-tls", "mesh", "nats")]
        lines = page(results(*records)).splitlines()
        rows = [line.split("  ")[0] for line in lines if " none " in line]
        self.assertEqual(rows, ["mesh", "nats-tls", "nats", "zmq"])

    def test_rounds_that_failed_are_told_below_the_table(self) -> None:
        records = [Record(number, "hop-64", "py2p", {}, "no links") for number in (1, 2)]
        good = Record(3, "hop-64", "py2p", TRANSFER)
        self.assertIn("\n* py2p: 2 of 3 rounds: no links\n", page(results(*records, good)))

    def test_the_page_of_the_docs_has_every_table_and_system(self) -> None:
        told = (ROOT / "docs" / "performance.rst").read_text()
        for scenario in SCENARIOS.values():
            self.assertIn(f"**{scenario.title}**", told)
        for name in SYSTEMS:
            self.assertRegex(told, rf"(?m)^{name}\n    ")


class PlotTests(SynchronousTestCase):
    def test_each_system_is_a_dot_on_its_scale(self) -> None:
        records = [
            Record(number, scenario, name, TRANSFER | {"rate": rate * number})
            for number in (1, 2)
            for scenario in ("hop-64", "hop-1k", "sustained")
            for name, rate in {"raw": 1e6, "mesh": 1e3}.items()
        ]
        drawn = svg(results(*records))
        root = ElementTree.fromstring(drawn)
        circles = [node for node in root if node.tag.endswith("circle")]
        self.assertEqual(len(circles), 4)  # the long scenario has a table instead
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for circle in circles:
            self.assertTrue(
                0 < float(circle.attrib["cx"]) < width and 0 < float(circle.attrib["cy"]) < height
            )
        self.assertGreater(float(circles[1].attrib["cx"]), float(circles[0].attrib["cx"]))  # raw is second
        self.assertEqual(drawn, svg(results(*records)))

    def test_nothing_to_draw(self) -> None:
        self.assertEqual(svg(results(Record(1, "hop-64", "mesh", {}, "no links"))), "")
