"""Schedules with fewer seconds of traffic."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from twisted_mesh.simulation.scenarios.schedules import Schedule

_Schedule = TypeVar("_Schedule", bound=Schedule)


def shortened(schedule: _Schedule, seconds: float) -> _Schedule:
    """*schedule* with so many seconds of traffic; a partition lasts at most half of them."""
    return replace(schedule, seconds=seconds, partition=min(schedule.partition, seconds / 2))
