"""Optax's own test-suite, run on this library through names alone.

    python -m tests.optax_suite            runs it and prints what became of each test case
    python -m tests.optax_suite clip       those whose names hold "clip", with what was raised

The tests are those inside the installed wheel of Optax; nothing of them is copied here.

names.py       what is called otherwise here
arguments.py   what takes its arguments in another way
searches.py    what stands at the end of a chain there, and around it here
shim.py        modules named like those of Optax, in which these names are
plugin.py      puts them in place in a run of pytest, and writes down what happened
outcomes.py    what is not expected to pass, and why
run.py         the run, and what became of each test case
"""
