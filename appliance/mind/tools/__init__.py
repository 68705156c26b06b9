"""What the appliance can do when asked: the registry, the shipped tools, servers of others."""

from appliance.mind.tools.grammar import ToolCall, call_schema, grammar, offer, parse
from appliance.mind.tools.mcp import McpClient, McpServer
from appliance.mind.tools.notes import NOTE_DECODER, Note, Notes
from appliance.mind.tools.registry import Registry, Tool, ToolError, ToolResult, typed_tool
from appliance.mind.tools.relevance import about
from appliance.mind.tools.shipped import (
    calculator_tool,
    clock_tool,
    note_tools,
    places_tool,
    status_tool,
    timer_tools,
)

__all__ = [
    "NOTE_DECODER",
    "McpClient",
    "McpServer",
    "Note",
    "Notes",
    "Registry",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "about",
    "calculator_tool",
    "call_schema",
    "clock_tool",
    "grammar",
    "note_tools",
    "offer",
    "parse",
    "places_tool",
    "status_tool",
    "timer_tools",
    "typed_tool",
]
