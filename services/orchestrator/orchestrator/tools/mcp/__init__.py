"""The client of the Model Context Protocol (MCP)."""
