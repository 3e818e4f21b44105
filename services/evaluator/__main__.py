"""`python -m services.evaluator`: serves the evaluator over HTTP."""

import argparse

import uvicorn


def main() -> None:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m services.evaluator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    args = parser.parse_args()
    uvicorn.run("services.evaluator.app:create", factory=True, host=args.host, port=args.port)


if __name__ == "__main__":
    main()
