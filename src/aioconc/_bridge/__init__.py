"""Where threads and event loops meet: what crosses from a worker thread to a loop crosses here.

`_mailbox` delivers to a loop, `_credits` bounds what is under way, and `_loop_calls` calls into a
loop and waits for the answer. Which work runs in which thread is left to the executors.
"""
