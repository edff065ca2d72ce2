"""Many processes for one run, applied to a model from outside: no component and no objective knows of it.

`single.Parallel` is what the loop calls: of one process it does nothing. `launch.started` gives that of the processes
that torchrun has started.
"""
