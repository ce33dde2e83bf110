"""Run cells: load modules, cross the boundary, schedule steps, supervise. Private to the host."""
