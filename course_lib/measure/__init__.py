"""Measure time, memory, speed and quality of models, with warm-up, repeats and confidence intervals."""

from course_lib.measure.engines import compare, measure_engine
from course_lib.measure.hardware import machine
from course_lib.measure.intervals import (
    Estimate,
    bootstrap_interval,
    mean_of,
    median_interval,
    median_of,
    paired_ratio,
    proportion_interval,
)
from course_lib.measure.memory import Memory, peak_memory
from course_lib.measure.results import EngineMeasurement, Results, Round
from course_lib.measure.timing import Measurement, measure

__all__ = [
    "EngineMeasurement",
    "Estimate",
    "Measurement",
    "Memory",
    "Results",
    "Round",
    "bootstrap_interval",
    "compare",
    "machine",
    "mean_of",
    "measure",
    "measure_engine",
    "median_interval",
    "median_of",
    "paired_ratio",
    "peak_memory",
    "proportion_interval",
]
