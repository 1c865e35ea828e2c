"""How a call is laid out in the payload of its frame: head, record, and the body of its arguments.

The record is the pickled function with its label. A worker keeps the records of functions that
are found by their name, so that they are sent once; other functions are pickled with their
arguments, since what they close over may have changed since the last call.
"""

from struct import Struct

# Flags, attempt, number of the function, length of the record, items that may be sent at first.
CALL_HEAD = Struct("<BxHIII")

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
# The body is `(variables, body)`: context variables as `(module, name, value)`, and the rest.
CONTEXT = 32
# Arrays among the arguments may be written.
WRITABLE = 64

# What a credit is for, and how many.
CREDIT_HEAD = Struct("<BI")
OF_ITEMS = 0
OF_REPORTS = 1

# How many reports may be unread before a worker waits: enough that one which reports in bursts
# does not wait for each turn of the loop.
REPORTS_UNREAD = 256

# What came of an item of `MANY`: its number, the kind of outcome, and the length of what follows.
ITEM_HEAD = Struct("<IBI")
PLAIN = 0  # a marshalled value
BODY = 1  # a value as a body
FAILED = 2  # an error with its traceback
ROW = 3  # a marshalled list: the values of this item and those that follow it

# Seconds that the items of `MANY` took, in front of the last outcomes.
SPENT = Struct("<d")

# The journal that a worker shares with its parent, for `MANY`: six words, the time at which the
# item that is worked on began, and outcomes that may not have been sent. Each word is written in
# one piece, so that it makes sense also after a kill.
JOURNAL_HEAD = Struct("=IIIIIId")
END = 0  # where the outcomes end
STOP = 1  # set by the parent: begin with no further item
BEGUN = 2  # items that have begun
FIRST = 3  # number of the item whose outcome is the first one there
MIXED = 4  # they have heads; without it they are marshalled values and nothing else
TIMED = 5  # set by the parent: it wants to know when an item began
JOURNAL_START = JOURNAL_HEAD.size
JOURNAL_SIZE = 65_536

# Number of the call that the worker has begun with, behind the journal: one that died before it
# had begun may be run by another.
STARTED = Struct("=I")
