"""The figures that eipack promises, measured on this machine: `python -m benchmarks`.

Each module measures one group and runs alone as `python -m benchmarks.NAME`. Models and
packages are made once, in `build/bench`; the user's own keys are not touched.
"""
