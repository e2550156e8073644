//! The demo agents: MCP servers in both eras, on both transports.
//! Never names the rest of the house.
