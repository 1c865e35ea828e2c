"""`ready`: what a worker of `serve_prefork` says once it serves."""

from collections.abc import Callable

# Set in a worker process of `serve_prefork`, by what has started it.
_report: Callable[[], object] | None = None


def ready() -> None:
    """Tell the supervisor of `serve_prefork` that this worker serves now.

    An old worker is only asked to end once its successor has said so, and one that does not say so
    in time is taken as failed. `serve_tcp` says it by itself. Elsewhere than in a worker it does
    nothing, so that the same code runs alone; a second time too.

    Example:
        >>> ready()
    """
    if _report is not None:
        _report()


report_ready = ready
