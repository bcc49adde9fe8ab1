"""The survey: one module per published system, in rooms by area; `erlangen.survey.claims` finds and runs them.

A system is `erlangen.systems.<area>.<name>`: a module with ``SYSTEM``, the facts of the paper, and ``experiment(scale, seed)``,
which returns a `erlangen.survey.claims.Result`. It is found because it is there. No system imports another one.
"""
