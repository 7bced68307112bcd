import { assert, assertEquals } from "@std/assert";
import { fromF16, toF16 } from "../../core/data/floats.ts";
import { attention } from "../../kernels/attention/forward.ts";
import { attentionGradKV, attentionGradQ } from "../../kernels/attention/backward.ts";
import { attentionGradBias } from "../../kernels/attention/bias_gradient.ts";
import { gatherRows, scatterRows } from "../../kernels/compact_rows.ts";
import { crossEntropy, crossEntropyGrad } from "../../kernels/cross_entropy.ts";
import { elementwise } from "../../kernels/elementwise.ts";
import { embedding, embeddingGrad } from "../../kernels/embedding.ts";
import type { Operand } from "../../kernels/expression.ts";
import type { F16Bindings } from "../../kernels/f16.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import { layerNorm, layerNormGradX } from "../../kernels/layer_norm.ts";
import { concat, pad, permute, slice } from "../../kernels/movement.ts";
import { reduce } from "../../kernels/reduce.ts";
import { rmsNorm, rmsNormGradX } from "../../kernels/rms_norm.ts";
import { rotary } from "../../kernels/rotary.ts";
import { softmax, softmaxGrad } from "../../kernels/softmax.ts";
import { blank, type Data, runKernel, values } from "./run_kernel.ts";

/** A kernel in both forms, and what it binds: each f32 input is rounded to f16 before either reads it. */
interface Twins {
  readonly kernel: (f16: F16Bindings) => Kernel;
  readonly inputs: readonly Data[];
  /** Elements of each output, f32. */
  readonly outputs: readonly number[];
  readonly f16: F16Bindings;
}

const isHalf = (f16: F16Bindings, name: string): boolean => f16.includes(name);

/** Runs both forms: the one of f16 must give what the other one gives, rounded. What that one gives, other tests say. */
async function assertTwins({ kernel, inputs, outputs, f16 }: Twins, what: string): Promise<void> {
  const rounded = inputs.map((data, i) => isHalf(f16, `a${i}`) ? fromF16(toF16(data as Float32Array)) : data);
  const packed = rounded.map((data, i) => isHalf(f16, `a${i}`) ? toF16(data as Float32Array) : data);
  const expected = await runKernel(kernel([]), { inputs: rounded, outputs: outputs.map(blank) });
  const seen = await runKernel(kernel(f16), {
    inputs: packed,
    outputs: outputs.map((size, i) =>
      isHalf(f16, `o${i}`) ? new Uint16Array(size).fill(0xffff) : blank(size)
    ),
  });
  for (const [i, data] of seen.entries()) {
    const wanted = isHalf(f16, `o${i}`) ? toF16(expected[i]) : expected[i];
    assertEquals(data, wanted as Data, `${what}: o${i}`);
    assert(expected[i].some((x) => x !== 0), `${what}: o${i} is not all zeros`);
  }
}

/** All choices among some bindings, but none at all. */
function choices(names: F16Bindings): F16Bindings[] {
  return Array.from({ length: 2 ** names.length - 1 }, (_, n) => names.filter((_, i) => (n + 1) >> i & 1));
}

// Rows of 24 are loaded four at a time, rows of 21 one by one.
for (const width of [24, 21]) {
  Deno.test(`rmsNorm and its gradient of rows of ${width} read and write f16 wherever they may`, async () => {
    const rows = 5, size = rows * width;
    for (const threads of [1, 32] as const) {
      for (const f16 of choices(["a0", "o0"])) {
        await assertTwins({
          kernel: (f16) => rmsNorm({ rows, width, eps: 1e-5, threads, saveScale: true, f16 }),
          inputs: [values(size, 1), values(width, 2)],
          outputs: [size, rows],
          f16,
        }, "rms_norm");
      }
      for (const f16 of [["a0", "a2", "a4", "o0"], ["a0"], ["a2"], ["a4"], ["o0"]]) {
        await assertTwins({
          kernel: (f16) => rmsNormGradX({ rows, width, threads, residual: true, f16 }),
          inputs: [1, 2, 3, 4, 5].map((seed) => values([size, width, size, rows, size][seed - 1], seed)),
          outputs: [size],
          f16,
        }, "rms_norm_grad");
      }
    }
  });

  Deno.test(`layerNorm, softmax and their gradients of rows of ${width} read and write f16`, async () => {
    const rows = 5, size = rows * width, inputs = [values(size, 1), values(width, 2), values(width, 3)];
    const norm = {
      rows,
      width,
      eps: 1e-5,
      threads: 1,
      gain: true,
      bias: true,
      saveStatistics: true,
    } as const;
    await assertTwins({
      kernel: (f16) => layerNorm({ ...norm, f16 }),
      inputs,
      outputs: [size, rows, rows],
      f16: ["a0", "o0"],
    }, "layer_norm");
    await assertTwins({
      kernel: (f16) => layerNormGradX({ rows, width, threads: 1, gain: true, residual: true, f16 }),
      inputs: [1, 2, 3, 4, 5, 6].map((seed) => values([size, size, rows, rows, width, size][seed - 1], seed)),
      outputs: [size],
      f16: ["a0", "a1", "a4", "a5", "o0"],
    }, "layer_norm_grad");
    for (const axis of [{ outer: rows, length: width, inner: 1 }, { outer: 1, length: rows, inner: width }]) {
      const options = { ...axis, threads: 1 } as const, f16 = ["a0", "o0"];
      await assertTwins(
        { kernel: (f16) => softmax({ ...options, f16 }), inputs: [inputs[0]], outputs: [size], f16 },
        "softmax",
      );
      await assertTwins({
        kernel: (f16) => softmaxGrad({ ...options, f16 }),
        inputs: [inputs[0], values(size, 2)],
        outputs: [size],
        f16: ["a0", "a1", "o0"],
      }, "softmax_grad");
    }
  });

  Deno.test(`crossEntropy and its gradient of rows of ${width} read and write f16, in place too`, async () => {
    const rows = 5, size = rows * width, labels = Int32Array.of(3, width - 1, -100, 0, 7);
    const logits = values(size, 1),
      scale = Float32Array.of(0.5),
      scores = { rows, classes: 19, ignore: -100 };
    await assertTwins({
      kernel: (f16) => crossEntropy({ ...scores, stride: width, threads: 32, f16 }),
      inputs: [logits, labels],
      outputs: [rows, rows],
      f16: ["a0"],
    }, "cross_entropy");
    for (const f16 of choices(["a0", "o0"])) {
      await assertTwins({
        kernel: (f16) => crossEntropyGrad({ ...scores, stride: width, f16 }),
        inputs: [logits, labels, values(rows, 2), scale],
        outputs: [size],
        f16,
      }, "cross_entropy_grad");
    }
    const own = { ...scores, stride: width },
      inputs = [labels, values(rows, 2), scale],
      packed = toF16(logits);
    const [apart] = await runKernel(crossEntropyGrad({ ...own, f16: ["a0", "o0"] }), {
      inputs: [packed, ...inputs],
      outputs: [new Uint16Array(size)],
    });
    const [inPlace] = await runKernel(crossEntropyGrad({ ...own, inPlace: true, f16: ["o0"] }), {
      inputs,
      outputs: [packed],
    });
    assertEquals(inPlace, apart);
  });

  Deno.test(`embedding, embeddingGrad, gatherRows and scatterRows of rows of ${width} read and write f16`, async () => {
    const rows = 6, vocab = 9, size = rows * width;
    const ids = Int32Array.of(3, 0, 8, 3, 3, 5);
    await assertTwins({
      kernel: (f16) => embedding({ rows, vocab, width, f16 }),
      inputs: [values(vocab * width, 1), ids],
      outputs: [size],
      f16: ["o0"],
    }, "embedding");
    await assertTwins({
      kernel: (f16) => embeddingGrad({ rows, vocab, width, threads: 1, f16 }),
      inputs: [values(size, 1), Uint32Array.of(1, 0, 3, 4, 5, 2), Int32Array.of(0, 3, 3, 3, 5, 8)],
      outputs: [vocab * width],
      f16: ["a0"],
    }, "embedding_grad");
    const order = Uint32Array.of(1, 3, 4, 0, 2, 5);
    for (const f16 of choices(["a0", "o0"])) {
      await assertTwins({
        kernel: (f16) => scatterRows({ rows, width, f16 }),
        inputs: [values(size, 1), order],
        outputs: [size],
        f16,
      }, "scatter_rows");
      const kernel = (f16: F16Bindings): Kernel =>
        gatherRows({ rows, ignore: -100, start: 1, count: 4, width, f16 });
      const inputs = [values(size, 1), ids, order, Uint32Array.of(3)];
      const small = [Int32Array.of(9, 9, 9, 9), Uint32Array.of(9)] as const;
      const rounded = fromF16(toF16(inputs[0] as Float32Array));
      const [expected] = await runKernel(kernel([]), {
        inputs: [rounded, ...inputs.slice(1)],
        outputs: [blank(4 * width), ...small],
      });
      const [seen, labels, limit] = await runKernel(kernel(f16), {
        inputs: [f16.includes("a0") ? toF16(rounded) : rounded, ...inputs.slice(1)],
        outputs: [f16.includes("o0") ? new Uint16Array(4 * width) : blank(4 * width), ...small],
      });
      assertEquals(seen, f16.includes("o0") ? toF16(expected) : expected as Data);
      assertEquals([[...labels], [...limit]], [[3, 3, -100, -100], [2]]);
    }
  });

  Deno.test(`permute, slice, pad and concat along ${width} move f16, and widen and round it`, async () => {
    const shape = [3, 4, width], size = 12 * width;
    for (const f16 of choices(["a0", "o0"])) {
      const one = { inputs: [values(size, 1)], f16 };
      const axes = [1, 0, 2], starts = [1, 0, 4], sizes = [2, 3, width - 8];
      await assertTwins(
        { ...one, kernel: (f16) => permute({ shape, axes, f16 }), outputs: [size] },
        "permute",
      );
      const cut = 6 * (width - 8);
      await assertTwins({
        ...one,
        kernel: (f16) => slice({ shape, starts, sizes, f16 }),
        outputs: [cut],
      }, "slice");
      const around = { before: [0, 1, 0], after: [2, 0, 4] };
      await assertTwins({
        ...one,
        kernel: (f16) => pad({ shape, ...around, f16 }),
        outputs: [5 * 5 * (width + 4)],
      }, "pad");
    }
    for (const f16 of choices(["a0", "a1", "o0"])) {
      await assertTwins({
        kernel: (f16) => concat({ shapes: [shape, [3, 4, width + 4]], axis: 2, f16 }),
        inputs: [values(size, 1), values(size + 48, 2)],
        outputs: [2 * size + 48],
        f16,
      }, "concat");
    }
  });

  Deno.test(`elementwise and reduce over rows of ${width} load f16 in any way, and elementwise stores it`, async () => {
    const rows = 7, shape = [rows, width], size = rows * width;
    const type = (f16: F16Bindings, name: string): Operand["type"] => f16.includes(name) ? "f16" : "f32";
    // A row, a column, all, and one number for all.
    const strides = [[0, 1], [1, 0], [width, 1], [0, 0]];
    const steps = [
      ...strides.map((_, input) => ({ kind: "load" as const, input })),
      {
        kind: "compute" as const,
        text: ([a, b, c, d]: readonly string[]) => `(${a} + ${b}) * ${c} - ${d}`,
        args: [0, 1, 2, 3],
      },
    ];
    const expression = (f16: F16Bindings) => ({
      shape,
      steps,
      inputs: strides.map((s, k) => ({ type: type(f16, `a${k}`), strides: s })),
    });
    const inputs = [width, rows, size, 1].map((length, i) => values(length, i + 1));
    for (const f16 of [["a0"], ["a1"], ["a2"], ["a3"], ["o1"], ["a0", "a1", "a2", "a3", "o0"]]) {
      await assertTwins({
        kernel: (f16) =>
          elementwise({
            expression: expression(f16),
            outputs: [4, 2],
            half: [f16.includes("o0"), f16.includes("o1")],
            label: "group",
          }),
        inputs,
        outputs: [size, size],
        f16,
      }, "elementwise");
    }
    for (const [outer, length, inner] of [[rows, width, 1], [1, rows, width]]) {
      await assertTwins({
        kernel: (f16) =>
          reduce({
            expression: expression(f16),
            outer,
            length,
            inner,
            kind: "sum",
            threads: 4,
            label: "sum",
          }),
        inputs,
        outputs: [outer * inner],
        f16: ["a0", "a1", "a2", "a3"],
      }, `reduce ${length}`);
    }
    // Results of rows, of columns by a thread each, and of columns that threads share.
    for (const [length, inner, threads] of [[width, 1, 4], [7, width, 1], [60, width, 4]]) {
      const outer = inner === 1 ? 7 : 1, all = [outer, length, inner];
      await assertTwins({
        kernel: (f16) =>
          reduce({
            expression: {
              shape: all,
              inputs: [{ type: type(f16, "a0"), strides: [length * inner, inner, 1] }],
              steps: [{ kind: "load", input: 0 }],
            },
            outer,
            length,
            inner,
            kind: "sum",
            threads,
            half: f16.includes("o0"),
            label: "sum",
          }),
        inputs: [values(outer * length * inner, 1)],
        outputs: [outer * inner],
        f16: ["a0", "o0"],
      }, `reduce ${length} to f16`);
    }
  });
}

for (const dim of [8, 10]) {
  Deno.test(`rotary turns ${dim} elements of f16, and copies those that it does not turn`, async () => {
    const batch = 2, time = 3, heads = 2, size = batch * time * heads * (dim + 6);
    for (const f16 of choices(["a0", "o0"])) {
      await assertTwins({
        kernel: (f16) => rotary({ batch, time, heads, dim: dim + 6, rotaryDim: dim, f16 }),
        inputs: [values(size, 1), values(time * dim / 2, 2), values(time * dim / 2, 3)],
        outputs: [size],
        f16,
      }, "rotary");
    }
  });
}

const SHAPE = { batch: 1, time: 37, heads: 2, kvHeads: 1, scale: 0.3, causal: true };
for (
  const [what, options] of [
    ["dim 10, direct", { ...SHAPE, dim: 10, tile: 0 }],
    ["dim 8, direct", { ...SHAPE, dim: 8, tile: 0, each: 2, rows: 16 }],
    ["tiles of 32 by 16", { ...SHAPE, dim: 16, tile: 16, rows: 32, split: 4 }],
    ["staged, 128 by 32", { ...SHAPE, dim: 16, tile: 32, rows: 128, split: 4, staged: true }],
    ["staged, 64 by 32, whole tiles", {
      ...SHAPE,
      time: 64,
      dim: 32,
      tile: 32,
      rows: 64,
      split: 8,
      staged: true,
    }],
  ] as const
) {
  Deno.test(`attention and its gradients read and write rows of f16: ${what}`, async () => {
    const { batch, time, heads, dim } = options;
    const own = batch * time * heads * dim, other = own / heads, stats = own / dim;
    // Tiles take seconds to compile, and load all rows in one way.
    const some = (...one: F16Bindings): F16Bindings[] => options.tile === 0 ? [[...one]] : [];
    const rows = [values(own, 1), values(other, 2), values(other, 3)];
    const more = [values(own, 4), values(stats, 5).map((x) => 4 + x), values(stats, 6)];
    for (const f16 of [["a0", "a1", "a2", "o0"], ...some("a1")]) {
      const kernel = (f16: F16Bindings): Kernel => attention({ ...options, f16 });
      await assertTwins({ kernel, inputs: rows, outputs: [own, stats], f16 }, "attention");
    }
    const inputs = [...rows, ...more];
    for (const f16 of [["a0", "a1", "a2", "a3", "o0"], ...some("a3")]) {
      const kernel = (f16: F16Bindings): Kernel => attentionGradQ({ ...options, f16 });
      await assertTwins({ kernel, inputs, outputs: [own], f16 }, "gradQ");
    }
    for (const f16 of [["a0", "a1", "a2", "a3", "o0", "o1"], ...some("a0", "o1")]) {
      const kernel = (f16: F16Bindings): Kernel =>
        attentionGradKV({ ...options, f16, outputs: { k: true, v: true } });
      await assertTwins({ kernel, inputs, outputs: [own, own], f16 }, "gradKV");
    }
    await assertTwins({
      kernel: (f16) => attentionGradKV({ ...options, f16, outputs: { k: false, v: true } }),
      inputs: [rows[0], rows[1], more[0], more[1]],
      outputs: [own],
      f16: ["a0", "a1", "a2", "o0"],
    }, "gradV");
  });
}

Deno.test("attention with ranges, a cap and a bias reads and writes rows of f16", async () => {
  const [time, heads, dim] = [9, 2, 8], bias = [1, heads, time, time];
  const options = { ...SHAPE, time, heads, dim, tile: 0, rows: 8, softCap: 2, ranges: true, bias };
  const own = time * heads * dim, stats = time * heads;
  const operands = [values(own, 1), values(own / heads, 2), values(own / heads, 3)];
  const ranges = Int32Array.from({ length: 2 * time }, (_, i) => i % 2 === 0 ? i >> 2 : i >> 1);
  const rows = Float32Array.from({ length: 4 * stats }, (_, i) => {
    const query = Math.floor(i / 4 / heads);
    return [1 + query / 9, 0.1, ranges[2 * query], ranges[2 * query + 1]][i % 4];
  });
  const added = values(heads * time * time, 5), inputs = [...operands, values(own, 4), rows, added];
  const f16 = ["a0", "a1", "a2", "a3"];
  const forward = (f16: F16Bindings): Kernel => attention({ ...options, f16 });
  const read = { inputs: [...operands, ranges, added], f16: ["a0", "a1", "a2", "o0"] };
  await assertTwins({ kernel: forward, ...read, outputs: [own, stats] }, "attention");
  const query = (f16: F16Bindings): Kernel => attentionGradQ({ ...options, f16 });
  await assertTwins({ kernel: query, inputs, outputs: [own], f16: [...f16, "o0"] }, "gradQ");
  const both = { k: true, v: true };
  const key = (f16: F16Bindings): Kernel => attentionGradKV({ ...options, outputs: both, f16 });
  await assertTwins({ kernel: key, inputs, outputs: [own, own], f16: [...f16, "o0", "o1"] }, "gradKV");
  const score = (f16: F16Bindings): Kernel => attentionGradBias({ ...options, f16 });
  await assertTwins({ kernel: score, inputs, outputs: [added.length], f16 }, "gradBias");
});

Deno.test("what is too large for f16 is stored as infinity, and NaN as NaN, four at a time and one by one", async () => {
  const some = [65504, 65519, 65520, 1e9, -65520, Infinity, NaN, 2 ** -24, 1e-9, -0, 1 + 2 ** -11];
  for (const length of [12, 11]) {
    const x = Float32Array.from({ length }, (_, i) => some[i % some.length]);
    const expression = {
      shape: [length],
      inputs: [{ type: "f32" as const, strides: [1] }],
      steps: [{ kind: "load" as const, input: 0 }],
    };
    const kernel = elementwise({ expression, outputs: [0], half: [true], label: "copy" });
    const [seen] = await runKernel(kernel, { inputs: [x], outputs: [new Uint16Array(length)] });
    assertEquals([...fromF16(seen)], [...fromF16(toF16(x))]);
  }
});
