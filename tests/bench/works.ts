/**
 * The works of the benchmark by name.
 *
 * Axes: B batch, T time, D width.
 *
 * @module
 */

import { InputError } from "@firn/train";
import type { Gpu, Precision, Signal } from "@firn/train";
import { SIGNALS } from "../../core/policy.ts";
import { BASES } from "./adapter_base.ts";
import { firnAdapter, firnLayer, firnModel, watching } from "./contenders.ts";
import type { Contender } from "./measure.ts";
import type { OneLayerSize } from "./one_layer.ts";
import { CHECKS, inPlaces, type Place, PROVIDERS } from "./elsewhere.ts";
import { firnProduct, type Product, type ProductOptions } from "./product.ts";
import { type Shape, SHAPES } from "./shapes.ts";
import type { TwinWork } from "./twin.ts";

/** One row of the results: contenders that do the same work, Firn first. */
export interface Entry {
  readonly work: string;
  /** Makes the contenders. */
  readonly open: (gpu: Gpu) => Promise<Contender[]>;
  /** The step after which losses are read. */
  readonly lossAt: number;
  /** How far losses may differ where all start from the same weights; null where they do not. */
  readonly tolerance: number | null;
  /** Floating-point operations, where the row shows TFLOP/s. */
  readonly flops: number | null;
  /** Whether the row counts in the mean of TFLOP/s over shapes of training. */
  readonly averaged: boolean;
  /** The same work for PyTorch; null when it has none. */
  readonly twin: TwinWork | null;
}

/** A name for the command line, and the rows that it makes. */
export interface Work {
  readonly about: string;
  /** The adapters that it is made for; `any`: a GPU, and a software adapter when asked for. */
  readonly suits: "gpu" | "software" | "any";
  readonly entries: readonly Entry[];
}

const NO_ENTRY = { lossAt: 1, tolerance: null, flops: null, averaged: false, twin: null };

/** What a work is measured with. */
interface Size {
  readonly precision: Precision;
  readonly batch: number;
  readonly length: number;
}

function modelEntry(name: keyof typeof SHAPES, { precision, batch, length }: Size): Entry {
  const shape: Shape = SHAPES[name], work = `${name} B ${batch} T ${length}`;
  const gpt2 = name === "gpt2-124m" && precision === "f32";
  return {
    ...NO_ENTRY,
    work,
    open: async (gpu) => [await firnModel(gpu, { shape, batch, length, precision })],
    lossAt: 5,
    twin: { kind: "model", shape, batch, length, gpt2 },
  };
}

function model(name: keyof typeof SHAPES, size: Size): Work {
  const entry = modelEntry(name, size);
  return { about: `a Llama, ${entry.work}`, suits: "gpu", entries: [entry] };
}

/** Pairs of LoRA of rank 16 beside a base in bf16, as PEFT trains them. */
function adapterEntry(name: keyof typeof BASES, { precision, batch, length }: Size): Entry {
  const shape = BASES[name];
  return {
    ...NO_ENTRY,
    work: `LoRA r 16, ${name} B ${batch} T ${length}`,
    open: async (gpu) => [await firnAdapter(gpu, { shape, storage: "file", precision, batch, length })],
    lossAt: 5,
    twin: { kind: "adapter", shape, batch, length },
  };
}

/** The one-layer network beside jax-js on some of its devices. */
function layerEntry(size: OneLayerSize, devices: readonly ("webgpu" | "wasm")[]): Entry {
  const { width, time, batch } = size;
  return {
    ...NO_ENTRY,
    work: `one layer D ${width} B ${batch} T ${time}`,
    async open(gpu) {
      const contenders = [await firnLayer(gpu, size)];
      // Loaded when needed, so that other works run without jax-js.
      const { jaxJs } = await import("./jax_js.ts");
      for (const device of devices) contenders.push(await jaxJs(size, device));
      return contenders;
    },
    lossAt: 25,
    // Rounding only, over 25 steps.
    tolerance: 1e-3,
    twin: { kind: "layer", ...size },
  };
}

const PRODUCTS: readonly Product[] = [
  { m: 4096, n: 4096, k: 4096, layout: "NN" },
  { m: 8192, n: 2304, k: 768, layout: "NT" },
  { m: 8192, n: 3072, k: 768, layout: "NT" },
  { m: 8192, n: 768, k: 3072, layout: "NN" },
  { m: 8192, n: 768, k: 768, layout: "NT" },
  { m: 768, n: 2304, k: 8192, layout: "TN" },
  { m: 1024, n: 2304, k: 768, layout: "NT" },
  { m: 1024, n: 768, k: 768, layout: "NN" },
];

/** The entry of a product. */
export function productEntry(product: Product, options: ProductOptions = {}): Entry {
  const { m, n, k, layout } = product;
  return {
    ...NO_ENTRY,
    work: `product ${m} x ${n} x ${k} ${layout}`,
    open: async (gpu) => [await firnProduct(gpu, product, options)],
    flops: 2 * m * n * k,
    averaged: m !== n || n !== k,
    twin: { kind: "product", ...product },
  };
}

/** What is measured, of every component. */
const WATCHED: readonly (readonly [name: string, signals: readonly Signal[]])[] = [
  ["gradNorm", ["gradNorm"]],
  ["GradES's three signals", ["gradNorm", "gradDelta", "weightDelta"]],
  ["snr's three signals", ["firstMoment", "secondMoment", "benefit"]],
  ["all seven signals", SIGNALS],
];

async function watched(gpu: Gpu, precision: Precision): Promise<Contender[]> {
  const size = { shape: SHAPES["gpt2-124m"], batch: 8, length: 1024, precision };
  const contenders = [await firnModel(gpu, size)];
  for (const [name, signals] of WATCHED) {
    contenders.push(await firnModel(gpu, { ...size, policy: watching(signals), name }));
  }
  return contenders;
}

/** A shape trained with f32 and with f16 between kernels; losses differ by the roundings of five steps. */
function halved(name: keyof typeof SHAPES, batch: number, length: number): Work {
  const size = { shape: SHAPES[name], batch, length };
  return {
    about: `${name} B ${batch} T ${length} stored as f16 between kernels, beside f32`,
    suits: "gpu",
    entries: [{
      ...NO_ENTRY,
      work: `precision, ${name} B ${batch} T ${length}`,
      open: async (gpu) => [
        await firnModel(gpu, size),
        await firnModel(gpu, { ...size, precision: "f16", name: "f16" }),
      ],
      lossAt: 5,
      tolerance: 1e-2,
    }],
  };
}

/** Models and a product of one precision in several places. */
function places(places: readonly Place[], precision: Precision): readonly Entry[] {
  const models = [["gpt2-124m", 8, 1024], ["gpt2-124m", 1, 1024], ["smollm2-135m", 1, 512]] as const;
  const [product] = PRODUCTS.slice(1), { m, n, k, layout } = product;
  return [
    ...models.map(([name, batch, length]): Entry => ({
      ...NO_ENTRY,
      work: `${name} B ${batch} T ${length}, ${precision}`,
      open: () => inPlaces({ shape: SHAPES[name], batch, length, precision }, places),
      lossAt: 5,
      // The same sums in another order, over five steps.
      tolerance: precision === "f16" ? 1e-2 : 1e-3,
    })),
    {
      ...NO_ENTRY,
      work: `product ${m} x ${n} x ${k} ${layout}, ${precision}`,
      open: () => inPlaces({ product, precision }, places),
      flops: 2 * m * n * k,
    },
  ];
}

/** The smallest of each kind, which tries all paths on any adapter. */
function tiny(precision: Precision): Work {
  const size = { precision, batch: 2, length: 32 };
  const products = (["NN", "NT", "TN"] as const).map((layout) => ({ m: 128, n: 64, k: 96, layout }));
  return {
    about: "the smallest of each kind: tries the command and the twin, measures nothing of worth",
    suits: "any",
    entries: [
      ...products.map((product) => productEntry(product, { precision, recorded: 1e7 })),
      modelEntry("tiny", size),
      adapterEntry("tiny", size),
    ],
  };
}

/**
 * The works; `refreeze`, `freezing` and `halves` are measured in ways of their own.
 *
 * @param precision Of trainings and products
 * @returns Works by name
 */
export function worksIn(precision: Precision): Readonly<Record<string, Work>> {
  return {
    "layer-128": {
      about: "one layer, D 128, B 8, T 64, beside jax-js on WebGPU and in WebAssembly; f32",
      suits: "software",
      entries: [layerEntry({ width: 128, time: 64, batch: 8 }, ["webgpu", "wasm"])],
    },
    "layer-768": {
      about: "one layer, D 768, B 8, T 512, beside jax-js on WebGPU; f32",
      suits: "gpu",
      entries: [layerEntry({ width: 768, time: 512, batch: 8 }, ["webgpu"])],
    },
    "matmul": {
      about: "matrix products alone",
      suits: "gpu",
      entries: PRODUCTS.map((product) => productEntry(product, { precision })),
    },
    "gpt2": model("gpt2-124m", { precision, batch: 8, length: 1024 }),
    "gpt2-b1": model("gpt2-124m", { precision, batch: 1, length: 1024 }),
    "smollm2": model("smollm2-135m", { precision, batch: 8, length: 512 }),
    "smollm2-b1": model("smollm2-135m", { precision, batch: 1, length: 512 }),
    "llama": model("llama-15m", { precision, batch: 32, length: 256 }),
    "llama-b4": model("llama-15m", { precision, batch: 4, length: 256 }),
    "lora": {
      about: "LoRA of rank 16 on the shape of Llama-3.2-1B in bf16, B 4 T 1024, beside PEFT",
      suits: "gpu",
      entries: [adapterEntry("llama-3.2-1b", { precision, batch: 4, length: 1024 })],
    },
    "gpt2-f16": halved("gpt2-124m", 8, 1024),
    "gpt2-b1-f16": halved("gpt2-124m", 1, 1024),
    "smollm2-f16": halved("smollm2-135m", 8, 512),
    "monitoring": {
      about: "gpt2 with signals measured, beside gpt2 without",
      suits: "gpu",
      entries: [{
        ...NO_ENTRY,
        work: "monitoring, gpt2-124m B 8",
        open: (gpu) => watched(gpu, precision),
        lossAt: 5,
        tolerance: 1e-3,
      }],
    },
    "checks": {
      about: "Dawn with its checks, beside Dawn without them",
      suits: "gpu",
      entries: places(CHECKS, precision),
    },
    "providers": {
      about: "native Deno beside Dawn; f32",
      suits: "gpu",
      entries: places(PROVIDERS, "f32"),
    },
    "refreeze": {
      about: "gpt2: time of a change of the frozen set",
      suits: "gpu",
      entries: [],
    },
    "freezing": {
      about: "gpt2, on a software adapter sotu: time saved by frozen sets, against what their FLOPs promise",
      suits: "any",
      entries: [],
    },
    "halves": {
      about: "the same with only a random half and the bottom half frozen",
      suits: "any",
      entries: [],
    },
    "tiny": tiny(precision),
  };
}

/** The works in f32. */
export const WORKS: Readonly<Record<string, Work>> = worksIn("f32");

/** The works of the table of mixed precision. */
const F16_TABLE = [
  ...["matmul", "gpt2", "gpt2-b1", "smollm2", "smollm2-b1", "lora"],
  ...["monitoring", "halves", "checks", "providers"],
];

/** The works of the table of f32 by matrix units. */
const PRECISION_TABLE = ["matmul", "gpt2", "gpt2-b1", "smollm2", "smollm2-b1"];

/** What a GPU measures when nothing is chosen: `halves` is a part of `freezing`, and `tiny` is of no worth. */
const DEFAULTS: Readonly<Record<Precision, (name: string) => boolean>> = {
  f32: (name) => !["lora", "halves", "tiny", "checks", "providers"].includes(name),
  f16: (name) => F16_TABLE.includes(name),
  f32x3: (name) => PRECISION_TABLE.includes(name),
};

/**
 * The works that a command line asks for.
 *
 * @param asked Names with commas between them; null for what suits the adapter and the precision
 * @param gpu The adapter
 * @param precision Of trainings and products; f32 when absent
 * @returns Names
 * @throws {InputError} When there is no such work, or it is made for a GPU and this is none
 */
export function chooseWorks(
  asked: string | null,
  gpu: { readonly name: string; readonly software: boolean },
  precision: Precision = "f32",
): string[] {
  const names = Object.keys(WORKS);
  if (asked === null) {
    const suited = names.filter((name) => gpu.software === (WORKS[name].suits === "software"));
    return gpu.software ? suited : suited.filter(DEFAULTS[precision]);
  }
  const suited = names.filter((name) => WORKS[name].suits !== "gpu");
  return asked.split(",").map((name) => {
    if (!names.includes(name)) {
      throw new InputError(`Cannot run the work "${name}" as the works are ${names.join(", ")}`);
    }
    if (gpu.software && WORKS[name].suits === "gpu") {
      throw new InputError(
        `Cannot run the work "${name}" as "${gpu.name}" is a software adapter and the work is made for a GPU: choose --work ${
          suited.join(",")
        } or a machine with a GPU and its Vulkan driver`,
      );
    }
    return name;
  });
}
