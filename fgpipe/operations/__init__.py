"""What is done with stages: promoting, serving, searching, comparing, planning, new projects."""
