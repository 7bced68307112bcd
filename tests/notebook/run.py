"""Runs the notebook of the examples in the kernel of Deno, and says what came of its cells.

    run.py NOTEBOOK [RESULT]

With RESULT the notebook is written there with its outputs: the one in examples/ is made so.
"""

import os
import queue
import sys

import nbformat
from jupyter_client.manager import start_new_kernel

SECONDS = 300
# The kernel of Deno 2.9 may send what a cell shows after it has said that the cell is done.
LATE = 1.0


def outputs_of(client, code):
    """What a cell shows, until it is done."""
    asked, outputs, done = client.execute(code), [], False
    while True:
        try:
            message = client.get_iopub_msg(timeout=LATE if done else SECONDS)
        except queue.Empty:
            if done:
                return outputs
            raise TimeoutError(f"a cell took longer than {SECONDS} s:\n{code}")
        if message["parent_header"].get("msg_id") != asked:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "status":
            done = done or content["execution_state"] == "idle"
        elif kind == "stream" and outputs and outputs[-1].get("name") == content["name"]:
            outputs[-1]["text"] += content["text"]
        elif kind in ("stream", "display_data", "execute_result", "error"):
            outputs.append(nbformat.v4.output_from_msg(message))


source, *results = sys.argv[1:]
notebook = nbformat.read(source, as_version=4)
manager, client = start_new_kernel(kernel_name="deno", cwd=os.path.dirname(source))
try:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells):
        cell.outputs, cell.execution_count = outputs_of(client, cell.source), number + 1
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
for path in results:
    nbformat.write(notebook, path)

shown = [output for cell in cells for output in cell.outputs]
errors = [output for output in shown if output.output_type == "error"]
assert not errors, errors
plots = [output.data["image/svg+xml"] for output in shown if "image/svg+xml" in output.get("data", {})]
assert len(plots) == 3 and all("<path" in plot for plot in plots), f"{len(plots)} plots"
texts = [output.data["text/plain"].strip('"') for output in shown if "text/plain" in output.get("data", {})]
frozen = [text for text in texts if text.endswith("components are frozen")]
assert len(frozen) == 1 and not frozen[0].startswith("0 "), texts
assert texts[-1].startswith("Call me Ishmael"), texts
print(f"notebook: {len(cells)} cells, {len(plots)} plots; {frozen[0]}; {texts[-1]}")
