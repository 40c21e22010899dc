"""The SQLite database of a site: its schema and migrations, and how its rows are written and read.

It is the last stage of the pipeline (record), the queue of `hipedge watch`, and the source of
everything that the commands show.
"""
