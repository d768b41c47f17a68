"""The figures that are computed from measurements."""

import json
from dataclasses import asdict

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.figures import (
    Record,
    Results,
    Spread,
    delay_figures,
    rate_between,
    request_figures,
    transfer_figures,
)

SECOND = 10**9


class TransferTests(SynchronousTestCase):
    def test_rate_is_from_the_first_sending_to_the_last_arrival_anywhere(self) -> None:
        marks = [[[1, 2 * SECOND, 0], [100, 3 * SECOND, 0]], [[1, 2 * SECOND, 0], [100, 5 * SECOND, 0]]]
        figures = transfer_figures(200, 200, 1 * SECOND, marks, 0.001)
        self.assertEqual((figures["seconds"], figures["rate"], figures["lost"]), (4.0, 50.0, 0.0))
        self.assertAlmostEqual(figures["cost"], 5.0)

    def test_losses_are_told_and_what_came_after_the_last_mark_does_not_count_as_fast(self) -> None:
        figures = transfer_figures(100, 42, 0, [[[1, SECOND, 0], [40, 2 * SECOND, 0]]], 0.0)
        self.assertEqual((figures["lost"], figures["rate"]), (0.58, 20.0))

    def test_nothing_at_all_has_no_rate(self) -> None:
        self.assertEqual(
            transfer_figures(100, 0, 0, [[]], 1.0), {"wanted": 100, "delivered": 0, "lost": 1.0}
        )

    def test_requests_are_counted_as_they_are_answered(self) -> None:
        self.assertEqual(
            request_figures(200, [[1, 0, 0], [100, 3 * SECOND, 0]], SECOND, 0.02),
            {"wanted": 200, "delivered": 100, "lost": 0.5, "rate": 50.0, "cost": 200.0},
        )
        self.assertEqual(request_figures(2, [], 0, 1.0), {"wanted": 2, "delivered": 0, "lost": 1.0})

    def test_the_first_tenth_is_compared_with_the_last(self) -> None:
        marks = [[1, 0, 7], [100, SECOND, 8], [900, 2 * SECOND, 9], [1000, 4 * SECOND, 10]]
        figures = rate_between(marks, 1000)
        self.assertEqual((figures["early_rate"], figures["late_rate"]), (99.0, 50.0))
        self.assertEqual((figures["receiver_early"], figures["receiver_late"]), (8, 10))
        self.assertAlmostEqual(figures["kept"], 50 / 99)

    def test_of_an_end_that_did_not_come_nothing_is_said(self) -> None:
        figures = rate_between([[1, 0, 7], [100, SECOND, 8], [500, 2 * SECOND, 9]], 1000)
        self.assertEqual(set(figures), {"early_rate", "receiver_early"})


class DelayTests(SynchronousTestCase):
    def test_percentiles(self) -> None:
        figures = delay_figures(200, [number * 1000 for number in range(99, -1, -1)])
        self.assertEqual((figures["p50"], figures["p99"], figures["max"]), (50e-6, 99e-6, 99e-6))
        self.assertEqual(figures["lost"], 0.5)
        self.assertEqual(delay_figures(5, []), {"wanted": 5, "delivered": 0, "lost": 1.0})


class ResultsTests(SynchronousTestCase):
    def setUp(self) -> None:
        rates = {"raw": (100.0, 400.0, 200.0), "mesh": (50.0, 100.0, 150.0)}
        records = [
            Record(number, "hop-64", system, {"rate": rate})
            for system, some in rates.items()
            for number, rate in enumerate(some, 1)
        ]
        failed = Record(4, "hop-64", "mesh", {}, "it did not answer")
        self.results = Results({"cores": "2"}, {"nats": "no server"}, [*records, failed])

    def test_the_median_stands_between_the_least_and_the_greatest(self) -> None:
        self.assertEqual(self.results.spread("hop-64", "raw", "rate"), Spread(200.0, 100.0, 400.0))
        self.assertIsNone(self.results.spread("hop-64", "nats", "rate"))

    def test_a_ratio_is_the_median_of_the_ratios_of_the_rounds(self) -> None:
        self.assertEqual(self.results.ratio("hop-64", "mesh", "raw", "rate"), 0.5)
        self.assertIsNone(self.results.ratio("hop-64", "mesh", "nats", "rate"))

    def test_results_come_back_from_json(self) -> None:
        self.assertEqual(Results.loaded(json.loads(json.dumps(asdict(self.results)))), self.results)
