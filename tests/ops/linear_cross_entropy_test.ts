import { assert, assertEquals, assertThrows } from "@std/assert";
import { fill, grad, InputError, leaf, type Tensor } from "@firn/train";
import { crossEntropy, linearCrossEntropy, matmul } from "@firn/train/ops";
import { plan } from "../../core/plan/plan.ts";
import type { Cost } from "../../core/plan/types.ts";
import { checkOps, type OpCase } from "../reference/check_ops.ts";
import * as reference from "../reference/ops.ts";

interface Sizes {
  /** Leading sizes of the hidden states. */
  readonly lead: readonly number[];
  readonly width: number;
  readonly classes: number;
  /** Rows whose scores fit. */
  readonly rows: number;
}

function sizesCase({ lead, width, classes, rows }: Sizes, labels: readonly number[]): OpCase {
  // Rows of scores whose classes are no multiple of four are longer, up to a multiple of eight.
  const bytes = 4 * (classes % 4 === 0 ? classes : Math.ceil(classes / 8) * 8) * rows;
  return {
    name: `linearCrossEntropy of [${lead}] x ${width} in ${classes}, ${rows} rows at a time, labels ${
      labels.slice(0, 8)
    }`,
    inputs: [
      { shape: [...lead, width] },
      { shape: [classes, width], low: -2, high: 2 },
      { shape: lead, integers: labels },
    ],
    op: (hidden, weight, labels) => linearCrossEntropy(hidden, { weight, labels, bytes }),
    reference: (hidden, weight, labels) => {
      const all = reference.reshape(hidden, [labels.data.length, width]);
      return reference.crossEntropy(reference.matmul(all, weight, { transposeB: true }), labels);
    },
  };
}

const odd = { lead: [7], width: 5, classes: 9, rows: 3 };

checkOps([
  sizesCase(odd, [0, 8, 3, 3, 1, 0, 7]),
  sizesCase(odd, [0, -100, 3, -100, 1, 0, -100]),
  sizesCase(odd, [2, 0, 1, -100, -100, -100, 8]),
  sizesCase(odd, [-100, -100, -100, -100, -100, -100, -100]),
  sizesCase({ ...odd, rows: 1 }, [0, 8, 3, -100, 1, 0, 7]),
  sizesCase({ ...odd, rows: 7 }, [0, 8, 3, -100, 1, 0, 7]),
  sizesCase({ lead: [2, 4], width: 8, classes: 12, rows: 3 }, [1, 2, 3, -100, 11, 0, 5, -100]),
  sizesCase(
    { lead: [130], width: 3, classes: 5, rows: 70 },
    Array.from({ length: 130 }, (_, i) => i % 3 === 0 ? -100 : i % 5),
  ),
]);

/** Counts at the borders of tiles and chunks; which rows count is mixed. */
checkOps([0, 1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 200].map((count) =>
  sizesCase(
    { lead: [2, 100], width: 4, classes: 6, rows: 128 },
    // 200 and 77 have no common divisor: every row once.
    Array.from({ length: 200 }, (_, i) => i * 77 % 200 < count ? i % 6 : -100),
  )
));

const ROWS = 1024, WIDTH = 8, CLASSES = 512;
const target = { software: false, subgroups: true, workgroupBytes: 32768, maxBindings: 8 };

/** What the gradients of a loss cost. */
function costOf(
  loss: (hidden: Tensor, options: { readonly weight: Tensor; readonly labels: Tensor }) => Tensor,
  wanted: readonly ("hidden" | "weight")[],
): Cost {
  const leaves = {
    hidden: leaf("hidden", { shape: [ROWS, WIDTH], dtype: "f32" }),
    weight: leaf("weight", { shape: [CLASSES, WIDTH], dtype: "f32" }),
    labels: leaf("labels", { shape: [ROWS], dtype: "i32" }),
  };
  const value = loss(leaves.hidden, leaves);
  return plan([value, ...grad(value, wanted.map((name) => leaves[name]))], { target }).cost;
}

const chunked: Parameters<typeof costOf>[0] = (hidden, options) =>
  linearCrossEntropy(hidden, { ...options, bytes: 128 * 4 * CLASSES });

Deno.test("linearCrossEntropy holds the scores of one chunk at a time, and their gradient in their place", () => {
  const scores = 128 * 4 * CLASSES;
  for (const wanted of [[], ["hidden"], ["weight"], ["hidden", "weight"]] as const) {
    assert(costOf(chunked, wanted).memory < 2 * scores, `for ${wanted}`);
  }
});

Deno.test("linearCrossEntropy computes no product for what is not wanted, and each scores' product once", () => {
  const product = 2 * ROWS * WIDTH * CLASSES;
  assertEquals(costOf(chunked, []).matmulFlops, product);
  assertEquals(costOf(chunked, ["hidden"]).matmulFlops, 2 * product);
  assertEquals(costOf(chunked, ["weight"]).matmulFlops, 2 * product);
  assertEquals(costOf(chunked, ["hidden", "weight"]).matmulFlops, 3 * product);
});

Deno.test("linearCrossEntropy takes one launch more than crossEntropy of a product where all scores fit", () => {
  const plain: typeof chunked = (hidden, { weight, labels }) =>
    crossEntropy(matmul(hidden, weight, { transposeB: true }), labels);
  const wanted = ["hidden", "weight"] as const;
  const own = costOf(linearCrossEntropy, wanted), other = costOf(plain, wanted);
  assertEquals([own.launches, own.matmulFlops], [other.launches + 1, other.matmulFlops]);
  assert(own.memory < other.memory + 4 * 3 * ROWS * WIDTH);
});

Deno.test("linearCrossEntropy refuses shapes that do not fit and labels that are not i32", () => {
  const hidden = fill(0, [4, 3]), labels = leaf("labels", { shape: [4], dtype: "i32" });
  assertThrows(() => linearCrossEntropy(hidden, { weight: fill(0, [5, 2]), labels }), InputError, "[V, C]");
  const wrong = { weight: fill(0, [5, 3]), labels: fill(0, [4]) };
  assertThrows(() => linearCrossEntropy(hidden, wrong), InputError, "labels must be i32");
  assertThrows(() => linearCrossEntropy(hidden, { ...wrong, bytes: 20 }), InputError, "labels must be i32");
});
