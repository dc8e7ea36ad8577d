"""What the command line does: `lensjax train fold=3`.

The floor above all others: nothing in the library imports from here.  `cli` finds a
command, `config` and `settings` check its keys, a module each does the work.
"""
