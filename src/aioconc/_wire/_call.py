"""How a call is laid out in the payload of its frame: head, record, and the body of its arguments.

The record is the pickled function with its label. A worker keeps the records of functions that
are found by their name, so that they are sent once; other functions are pickled with their
arguments, since what they close over may have changed since the last call.
"""

from struct import Struct

# Flags, attempt, number of the function, length of the record.
CALL_HEAD = Struct("<BxHII")

# The record is `(fn, label)`, and is to be kept under its number.
KEEP = 1
# The record is `label`; the body is `(fn, args, kwargs)`. Without it: `(args, kwargs)`.
WHOLE = 2
# What the function gives is iterated, and the items are sent one by one.
STREAM = 4
# The body is a list of items, each the only argument of a call.
MANY = 8
# Somebody listens to reports.
REPORTS = 16

# What a credit is for, and how many.
CREDIT_HEAD = Struct("<BI")
OF_ITEMS = 0
OF_REPORTS = 1

# How many reports may be unread before a worker waits: enough that one which reports in bursts
# does not wait for each turn of the loop.
REPORTS_UNREAD = 256

# Number of an item of `MANY`, and whether it ended with a value.
ITEM_HEAD = Struct("<I?")

# The journal of a worker: bytes written that may not have been sent, the item it works on.
JOURNAL_HEAD = Struct("<II")
JOURNAL_SIZE = 65_536
