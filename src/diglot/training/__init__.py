"""Training one model in either language from the same start, on the same batches, in the same order."""

from diglot.training.job import Job
from diglot.training.recipe import Recipe
from diglot.training.task import Batch, Data, Task

__all__ = ["Batch", "Data", "Job", "Recipe", "Task"]
