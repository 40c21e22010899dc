"""What people look at: the worklist of flagged hips and the pictures of a case."""
