/**
 * How a tensor prints in a REPL, a notebook and `console.log`: in one line, not as its graph.
 *
 * The methods are enumerable symbols, as a tensor is a plain record: `{ ...node }` copies them; `JSON.stringify` and
 * `Object.keys` do not see them.
 *
 * @module
 */

/** The parts of a tensor that are printed. */
interface Printed {
  readonly op: { readonly name: string };
  readonly attrs: unknown;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** Deno, Node and Bun call the method of this name to print an object. */
export const INSPECT: symbol = Symbol.for("nodejs.util.inspect.custom");

/** Notebooks call the method of this name; it returns texts by MIME type. */
export const DISPLAY: symbol = Symbol.for("Jupyter.display");

/** Prints `Tensor "layer.weight" f32 [2, 3]` for a tensor with a path, and `Tensor matmul f32 [2, 3]` for a result. */
export function lineOf(this: Printed): string {
  const { op, attrs, shape, dtype } = this;
  const path = typeof attrs === "object" && attrs !== null && "path" in attrs ? attrs.path : undefined;
  const name = typeof path === "string" ? `"${path}"` : op.name;
  return `Tensor ${name} ${dtype} [${shape.join(", ")}]`;
}

/** Prints the same line in a notebook. */
export function displayOf(this: Printed): { readonly [mime: string]: string } {
  return { "text/plain": lineOf.call(this) };
}
