"""The package: one file that holds a model for any target."""

from eipack.package.package import Package

__all__ = ["Package"]
