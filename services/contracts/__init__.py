"""What a caller of any service needs: ports, messages, errors. Depends on pydantic only."""
