"""Both halves of a hearing, whose texts are run in sandboxes: the judge's and the program's.

They import nothing that is slow to import, as each hearing starts afresh; the outside is
:mod:`rewards.sandbox.hearing`.
"""
