"""Work in processes of its own: runs, their events, the worker, the tasks, plans, and watching all of it."""
