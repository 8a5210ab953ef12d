"""
The panels of the lab, each in a file of its own.

Stable class names, for a style sheet or a test: `allocator-lab` is all of it; `allocator-lab-workload`, `-live`,
`-workers`, `-dead-letters` and `-record` its panels; `-told` and `-problem` (in `-lines`) the lines that say what is
done and what went wrong; `-start`, `-stop`, `-rate-slider`, `-failing-slider` and `-figure` controls and figure;
`-rate`, `-throughput`, `-retries`, `-backlog`, `-dead`, `-wait-p50`, `-wait-p99`, `-sojourn-p50` and `-sojourn-p99` the
numbers; `-worker-N` the row of a worker, with `-kill`, `-pause` and `-remove`; `-letters`, `-letter`, `-put-back`,
`-put-back-all` and `-purge` of the dead letters; `-start-recording`, `-stop-recording`, `-export`, `-recorded` and
`-run-link` of a recording.
"""
