"""Entity selectors: the piece of the filter language that GetTimeSeriesServiceStatistics takes."""

from __future__ import annotations

from xrayd.dev.filters.cursor import Cursor, error_at
from xrayd.dev.filters.lexer import Kind
from xrayd.dev.filters.parser import read_edge_nodes, read_node, read_service_node
from xrayd.dev.filters.syntax import EdgeTest, ServiceTest


def parse_selector(text: str) -> ServiceTest | EdgeTest:
    """The nodes or edges that `service(…)`, `edge(…)` or `id(…)` selects; neither has a block.

    X-Ray refuses anything more here, though it is a filter expression: blocks, keywords, AND, OR.

    Raises:
        FilterError: the text is not one of the three.
    """
    cursor = Cursor(text)
    selector: ServiceTest | EdgeTest
    if cursor.is_at(Kind.WORD, "id"):
        selector = ServiceTest(read_node(cursor))
    elif cursor.take_word("service"):
        selector = ServiceTest(read_service_node(cursor))
    elif cursor.take_word("edge"):
        selector = EdgeTest(*read_edge_nodes(cursor))
    else:
        raise cursor.unexpected("service(…), edge(…) or id(…) as an entity selector")
    if cursor.current.kind is not Kind.END:
        raise error_at(
            cursor.current, "an entity selector is one service(…), edge(…) or id(…), nothing more"
        )
    return selector
