"""Bridges to other libraries; each module imports its own, nothing here is loaded by default."""
