import { concat, pad, permute, reshape, slice } from "@firn/train/ops";
import { checkOps } from "../reference/check_ops.ts";
import * as reference from "../reference/ops.ts";

checkOps([
  {
    name: "reshape",
    inputs: [{ shape: [3, 10] }],
    op: (x) => reshape(x, [5, 2, 3]),
    reference: (x) => reference.reshape(x, [5, 2, 3]),
  },
  {
    name: "permute of two axes",
    inputs: [{ shape: [5, 7] }],
    op: (x) => permute(x, [1, 0]),
    reference: (x) => reference.permute(x, [1, 0]),
  },
  {
    name: "permute in a cycle",
    inputs: [{ shape: [2, 3, 5, 4] }],
    op: (x) => permute(x, [2, 0, 3, 1]),
    reference: (x) => reference.permute(x, [2, 0, 3, 1]),
  },
  {
    name: "permute of whole rows of four",
    inputs: [{ shape: [2, 3, 5, 4] }],
    op: (x) => permute(x, [0, 2, 1, 3]),
    reference: (x) => reference.permute(x, [0, 2, 1, 3]),
  },
  {
    name: "slice",
    inputs: [{ shape: [4, 5, 3] }],
    op: (x) => slice(x, { starts: [1, 0, 2], sizes: [2, 5, 1] }),
    reference: (x) => reference.slice(x, { starts: [1, 0, 2], sizes: [2, 5, 1] }),
  },
  {
    name: "pad",
    inputs: [{ shape: [2, 5] }],
    op: (x) => pad(x, { before: [1, 0], after: [0, 2] }),
    reference: (x) => reference.pad(x, { before: [1, 0], after: [0, 2] }),
  },
  {
    name: "concat of columns",
    inputs: [{ shape: [3, 2] }, { shape: [3, 1] }, { shape: [3, 4] }],
    op: (...inputs) => concat(inputs, 1),
    reference: (...inputs) => reference.concat(inputs, 1),
  },
  {
    name: "concat of more than a kernel binds",
    inputs: Array.from({ length: 9 }, (_, i) => ({ shape: [1 + i % 2, 4] })),
    op: (...inputs) => concat(inputs, 0),
    reference: (...inputs) => reference.concat(inputs, 0),
  },
]);
