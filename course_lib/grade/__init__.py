"""Hand in and grade learners' work: `course submit`, `course grade`, and exports to nbgrader and Otter.

When a submission is graded, each answer runs in a process of its own.
"""
