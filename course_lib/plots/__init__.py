"""The plots and diagrams of the chapters: functions that take plain numbers and return a matplotlib figure.

"Describe in the text below the figure: ..." in a docstring lists what the chapter's text below the figure,
which begins with "In words", must say for readers who cannot see the figure.
"""

from course_lib.plots.bar_charts import bars, histograms, stacked_bar, training_memory
from course_lib.plots.base import COLOURS, Picture
from course_lib.plots.diagrams import low_rank, ways_to_read
from course_lib.plots.inference_diagrams import cut_prompt, packed_block, shared_heads, timeline
from course_lib.plots.line_charts import curves, lines_with_intervals, losses
from course_lib.plots.picture_charts import attention, clouds, gallery, two_histograms
from course_lib.plots.point_charts import bounded_choice, calibration, dots, named_points, scatter
from course_lib.plots.search_charts import alignment, rankings

__all__ = [
    "COLOURS",
    "Picture",
    "alignment",
    "attention",
    "bars",
    "bounded_choice",
    "calibration",
    "clouds",
    "curves",
    "cut_prompt",
    "dots",
    "gallery",
    "histograms",
    "lines_with_intervals",
    "losses",
    "low_rank",
    "named_points",
    "packed_block",
    "rankings",
    "scatter",
    "shared_heads",
    "stacked_bar",
    "timeline",
    "training_memory",
    "two_histograms",
    "ways_to_read",
]
