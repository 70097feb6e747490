"""Hub -> hub, one file per pass, in one order (see :mod:`diglot.passes.pipeline`)."""
