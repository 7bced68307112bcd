/**
 * Writes the code of the notebook of the examples as one module: `cells.ts FILE`. Refuses a notebook that was not run, or in
 * which a cell failed.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";

/** A cell, as far as it is read. */
interface Cell {
  readonly cell_type: string;
  readonly execution_count?: number | null;
  readonly source: string | readonly string[];
  readonly outputs?: readonly { readonly output_type: string }[];
}

const { cells } = JSON.parse(Deno.readTextFileSync("examples/notebook.ipynb")) as {
  readonly cells: readonly Cell[];
};
const code = cells.filter(({ cell_type }) => cell_type === "code");
assert(code.length > 0);
for (const [i, { execution_count, outputs = [] }] of code.entries()) {
  assertEquals(
    execution_count,
    i + 1,
    "the cells were not run one after the other: sh tests/notebook/notebook.sh",
  );
  assertEquals(outputs.filter(({ output_type }) => output_type === "error"), []);
}
const textOf = ({ source }: Cell): string => typeof source === "string" ? source : source.join("");
Deno.writeTextFileSync(Deno.args[0], code.map(textOf).join("\n") + "\n");
