"""Runs the cells of one program: `python run.py PROGRAM CELLS`, with CELLS as JSON {cell: question}.

Prints one line of JSON per cell: what it returned, or how it failed.
"""

import importlib
import json
import sys
import traceback


def main():
    name, cells = sys.argv[1], json.loads(sys.argv[2])
    program = importlib.import_module(name)
    reasons = getattr(program, "NOT", {})
    for cell, question in cells.items():
        outcome = {"cell": cell}
        if cell in reasons:
            outcome["reason"] = reasons[cell]
        else:
            try:
                outcome["answer"] = getattr(program, cell)(question)
            except Exception:
                outcome["error"] = traceback.format_exc()[-1500:]
        print("\n" + json.dumps(outcome), flush=True)


main()
