"""ToolBench's file formats and conventions as pure functions, shared by several services."""
