"""MCP servers as sources of tools: their definitions, the jail of local ones, live sessions."""

from services.toolenv.mcp_servers.definitions import (
    Definitions,
    HttpTransport,
    McpServerDefinition,
    SingleDefinition,
    StdioTransport,
)
from services.toolenv.mcp_servers.jail import JailUnavailable
from services.toolenv.mcp_servers.problems import McpProblem
from services.toolenv.mcp_servers.server import ServerStatus
from services.toolenv.mcp_servers.servers import McpServers
from services.toolenv.mcp_servers.session import Listing, ServerLimits

__all__ = [
    "Definitions",
    "HttpTransport",
    "JailUnavailable",
    "Listing",
    "McpProblem",
    "McpServerDefinition",
    "McpServers",
    "ServerLimits",
    "ServerStatus",
    "SingleDefinition",
    "StdioTransport",
]
