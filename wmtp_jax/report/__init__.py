"""What a run leaves for a person to look at: the closing table, the plots, one page with both."""

from wmtp_jax.report.page import write_report
from wmtp_jax.report.plot import loss_plot, solution_plot
from wmtp_jax.report.table import Measure, closing_table

__all__ = ["Measure", "closing_table", "loss_plot", "solution_plot", "write_report"]
