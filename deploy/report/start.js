/* Everything that needs no chart shows itself; performance marks are for benchmarks/report.py. */
report.change({});
performance.mark("interactive");
