"""Measures deployer beside other ways to do the same. Not a part of the package."""
