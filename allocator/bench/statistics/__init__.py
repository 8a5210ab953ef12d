"""
Statistics of runs: pure functions over the rows that a run leaves.

`summary` gives every figure of one run, `gates` whether they may be used, `intervals` what several runs say together,
`comparison` whether one arm is better than another, `capacity` and `curves` what a series of rates or workers shows,
`claims` what may be printed at all. `calibration` proves the intervals where the truth is known, and `stopped` the
whole harness where the delay is known.
"""
