/**
 * Compares what a program did under Node with what it did under Deno: `compare.ts NODE.json DENO.json`.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { print } from "../../examples/print.ts";

/** What `tests/npm/project/train.ts` prints. */
interface Outcome {
  readonly adapter: string;
  readonly losses: readonly number[];
  readonly again: readonly number[];
  readonly frozen: readonly string[];
  readonly taken: string;
  readonly text: string;
  readonly sample: readonly number[];
}

/** See `tests/runtime/web_gpu_test.ts`. */
const ROUNDING = 2e-5;

const [node, deno] = Deno.args.map((path) => JSON.parse(Deno.readTextFileSync(path)) as Outcome);
assertMatch(node.adapter, /swiftshader.*\(dawn\)/i);
assertEquals(node.losses.length, 4);
assertEquals(node.again, node.losses.slice(2), "it does not go on bit for bit");
assertEquals(node.frozen, ["model.layers.4.input_layernorm"]);
assertMatch(node.taken, /as one run at a time uses a folder: process \d+ on "/);
const difference = Math.max(
  ...node.losses.map((loss, i) => Math.abs(loss - deno.losses[i]) / deno.losses[i]),
);
assert(difference < ROUNDING, `losses differ by ${difference}`);
assertEquals([node.frozen, node.text, node.sample], [deno.frozen, deno.text, deno.sample]);
print(`Node trains as Deno does: losses ${node.losses.map((loss) => loss.toFixed(4)).join(", ")}`);
