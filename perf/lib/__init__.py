"""Parts of perf/compare, in the order a run takes: machine, process, servers, load, idle, rows, report, chart."""
