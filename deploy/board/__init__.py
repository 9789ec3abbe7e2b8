"""What `flash` runs on the board before anything is installed there: Python's standard library only, 3.8 or later.

The sources travel over SSH's standard input (`deploy.board_call`) and leave no file behind.
"""
