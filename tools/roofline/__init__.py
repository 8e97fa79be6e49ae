"""What an accelerator that is not at hand would have to do for a program, and the least it takes.

`python -m tools.roofline --help` says how. XLA compiles the program for the device; each kernel of
the result is read for the bytes it moves and the floating point operations it makes, and takes the
longer of the two at the device's rates: the roofline (Williams et al.: Roofline, an insightful
visual performance model for multicore architectures, CACM 2009).
"""
