"""`python -m gateway`: serves the gateway with its services elsewhere."""

import argparse

import uvicorn


def main() -> None:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port to listen on")
    args = parser.parse_args()
    uvicorn.run("gateway.app:create", factory=True, host=args.host, port=args.port)


if __name__ == "__main__":
    main()
