"""Teams of threads that share the tasks of one call.

``team.py`` has the threads, ``loops.py`` what they run, ``tasks.py`` the tasks besides products:
optimizers and copies.
"""
