"""`python -m services.retriever`: serves the retriever over HTTP."""

import argparse

import uvicorn


def main() -> None:
    """Parse the command line and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m services.retriever", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    options = parser.parse_args()
    uvicorn.run("services.retriever.app:create", factory=True, host=options.host, port=options.port)


if __name__ == "__main__":
    main()
