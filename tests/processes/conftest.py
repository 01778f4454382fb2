"""The scripts beside the tests are run in processes of their own and are no test modules."""

collect_ignore = ["cases.py", "faults.py", "memory.py", "resumes.py", "starting.py", "worker.py"]
