"""The command lines: usnet-serve, usnet-ctl, usnet-bench. Each is a thin layer over the package."""
