"""Many runs of one question, one after another: trends, and where they took a step."""
