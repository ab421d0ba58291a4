"""Grade learners' submissions: `course grade`. Answers run in processes of their own."""
