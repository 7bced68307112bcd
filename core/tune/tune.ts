/**
 * Measures which kernel of each matrix product is fastest on this device.
 *
 * @module
 */

import { matmul, reduceSplits } from "../../kernels/matmul/matmul.ts";
import { magnitudes, magnitudesOf } from "../../kernels/matmul/magnitudes.ts";
import {
  isPaired,
  type MatmulVariant,
  partialSize,
  productKey,
  splitOf,
} from "../../kernels/matmul/types.ts";
import { isVariant, matmulVariants } from "../../kernels/matmul/variants.ts";
import { toBf16 } from "../data/floats.ts";
import type { KernelText, Target } from "../kernel_call.ts";
import type { StorageType } from "../spec.ts";
import { checkAllocations, createBuffer, destroyBuffer } from "../runtime/buffers.ts";
import type { Gpu } from "../runtime/device.ts";
import { bytesOf } from "../plan/storage.ts";
import { bindKernel, type BoundKernel, compileAll } from "../runtime/pipelines.ts";
import type { TimedPass } from "../runtime/timestamps.ts";
import type { Product } from "../plan/lower/products.ts";
import { timeBusily, timesFor, warmUp } from "./busy.ts";
import { loadVariants, saveVariants } from "./tune_cache.ts";

/** A variant of a product, ready to be launched. */
interface Candidate {
  readonly variant: MatmulVariant;
  readonly pass: TimedPass;
}

/** Variants of a product that are measured, most promising first. */
const CANDIDATES = 8;
/** Every candidate is measured once a round. */
const ROUNDS = 3;
/** Milliseconds of work of a candidate in a round. Shorter measurements are noisy. */
const ROUND_MS = 5;
/** Milliseconds of work of the first candidate before all are measured. */
const WARM_UP_MS = 10;
/** A later candidate is preferred when it is faster by this share. */
const MARGIN = 0.01;

/**
 * Finds the fastest variant of each product that is not in `tuning.variants` yet: from the cache file, or by measuring.
 *
 * @param gpu The device; the variants are added to its `tuning.variants`
 * @param products The products by key
 * @throws {OutOfMemoryError} When the largest product does not fit beside what is allocated
 * @throws {Error} When the cache file cannot be read or written
 */
export async function tune(gpu: Gpu, products: ReadonlyMap<string, Product>): Promise<void> {
  const { tuning, target } = gpu;
  const missing = (): Product[] =>
    [...products].flatMap(([key, product]) => tuning.variants.has(key) ? [] : [product]);
  if (missing().length === 0) return;
  if (tuning.cache !== null) {
    const known = await loadVariants(tuning.cache, gpu.name);
    for (const product of missing()) {
      const key = productKey(product), variant = known.get(key);
      if (isVariant(variant, { sizes: product, options: target })) tuning.variants.set(key, variant);
    }
  }
  const open = missing();
  if (open.length === 0) return;
  // Written before the work, so that a path that cannot be written does not lose it.
  if (tuning.cache !== null) await saveVariants(tuning.cache, { adapter: gpu.name, variants: new Map() });
  const chosen = await measure(gpu, open);
  for (const [key, variant] of chosen) tuning.variants.set(key, variant);
  if (tuning.cache !== null) await saveVariants(tuning.cache, { adapter: gpu.name, variants: chosen });
}

async function measure(gpu: Gpu, products: readonly Product[]): Promise<Map<string, MatmulVariant>> {
  const buffers: GPUBuffer[] = [];
  try {
    const scratch = allocate(gpu, { products, buffers });
    await checkAllocations(gpu);
    const report = (done: number): void => gpu.tuning.onProgress?.({ done, total: 2 * products.length });
    const candidates: Candidate[][] = [];
    for (const product of products) {
      report(candidates.length);
      candidates.push(await candidatesOf(gpu, { product, scratch }));
      // Compiling blocks the thread: this lets a progress line be drawn.
      await new Promise((resolve) => setTimeout(resolve));
    }
    const chosen = new Map<string, MatmulVariant>();
    const load = gpu.software ? null : await warmUp(gpu, largestOf(products, candidates));
    for (const [i, product] of products.entries()) {
      report(products.length + i);
      chosen.set(productKey(product), await fastestOf(gpu, { candidates: candidates[i], load }));
    }
    report(2 * products.length);
    return chosen;
  } finally {
    for (const buffer of buffers) destroyBuffer(buffer);
  }
}

/** The first candidate of the largest product: few launches of it keep the device busy for long. */
function largestOf(products: readonly Product[], candidates: readonly (readonly Candidate[])[]): TimedPass {
  const flops = products.map(({ batch, m, n, k }) => batch * m * n * k);
  return candidates[flops.indexOf(Math.max(...flops))][0].pass;
}

/** The fastest variant. Each round measures all candidates. */
async function fastestOf(
  gpu: Gpu,
  { candidates, load }: { readonly candidates: readonly Candidate[]; readonly load: TimedPass | null },
): Promise<MatmulVariant> {
  if (candidates.length === 1) return candidates[0].variant;
  const passes = candidates.map(({ pass }) => pass);
  const once = await timeBusily(gpu, { passes, load });
  const round = passes.map((pass, i): TimedPass => ({ ...pass, times: timesFor(ROUND_MS, once[i]) }));
  const warm = { ...passes[0], times: timesFor(WARM_UP_MS, once[0]) };
  const rounds = Array.from({ length: ROUNDS }, () => round).flat();
  const [, ...times] = await timeBusily(gpu, { passes: [warm, ...rounds], load });
  return candidates[fastest(times, passes.length)].variant;
}

/**
 * Finds the candidate with the shortest time in its best round. A later one must be faster by a margin.
 *
 * @param times Milliseconds of every candidate in the first round, then in the second, and so on
 * @param count How many candidates there are
 * @returns Index of the candidate
 */
export function fastest(times: readonly number[], count: number): number {
  const least = Array.from(
    { length: count },
    (_, i) => Math.min(...times.filter((_, at) => at % count === i)),
  );
  return least.reduce((best, ms, i) => ms < least[best] * (1 - MARGIN) ? i : best, 0);
}

/** Buffers that serve all products, one after the other. */
interface Scratch {
  readonly a: GPUBuffer;
  readonly b: GPUBuffer;
  /** The largest magnitudes of operands, for products by pairs. */
  readonly largest: readonly GPUBuffer[];
  /** One for each result of a launch. */
  readonly parts: readonly GPUBuffer[];
  readonly out: readonly GPUBuffer[];
}

const variantsOf = (gpu: Gpu, product: Product): MatmulVariant[] =>
  matmulVariants(product, gpu.target).slice(0, CANDIDATES);

/** The number of results of a launch. */
const resultsOf = ({ group }: Product): number => group?.as === "separate" ? group.count : 1;

/** Allocates buffers that fit all products, and adds them to `buffers`. */
function allocate(
  gpu: Gpu,
  { products, buffers }: { readonly products: readonly Product[]; readonly buffers: GPUBuffer[] },
): Scratch {
  const buffer = (
    name: string,
    specOf: (product: Product) => { readonly shape: readonly number[]; readonly dtype?: StorageType },
  ): GPUBuffer => {
    const bytes = Math.max(...products.map((p) => bytesOf(specOf(p))));
    buffers.push(createBuffer(gpu, { label: `tuning ${name} (openGpu({ tune: false }) needs none)`, bytes }));
    return buffers.at(-1)!;
  };
  const results = Math.max(...products.map(resultsOf));
  const each = (make: (least: number) => GPUBuffer): GPUBuffer[] =>
    Array.from({ length: results }, (_, i) => make(i + 1));
  const scratch = {
    a: buffer(
      "a",
      ({ batch, m, k, transposeA, strideA = transposeA ? m : k }) => ({
        shape: [batch, transposeA ? k : m, strideA],
      }),
    ),
    b: buffer(
      "b",
      ({ batch, n, k, columnsB = n, transposeB, storedB }) => ({
        shape: transposeB ? [batch, columnsB, k] : [batch, k, columnsB],
        dtype: storedB,
      }),
    ),
    largest: (["a", "b"] as const).flatMap((name) =>
      products.some(({ paired }) => paired)
        ? [
          buffer("magnitudes", (p) => {
            const { parts, rows } = magnitudesOf(p, name);
            return { shape: [parts, rows] };
          }),
        ]
        : []
    ),
    parts: each((least) =>
      buffer("parts", (p) => ({
        shape: resultsOf(p) < least ? [] : [Math.max(...variantsOf(gpu, p).map(splitOf)), partialSize(p)],
      }))
    ),
    out: each((least) => buffer("out", (p) => ({ shape: resultsOf(p) < least ? [] : [p.batch, p.m, p.n] }))),
  };
  // Some devices multiply zeros faster. Both halves of a word are bf16 of a similar value, and finite as f16.
  const some = Float32Array.from({ length: 2 ** 18 }, (_, i) => ((i * 7919) % 1009) / 1009 - 0.5);
  const block = Uint32Array.from(toBf16(some), (code) => code * 0x10001);
  for (const operand of [scratch.a, scratch.b]) {
    for (let at = 0; at < operand.size; at += block.byteLength) {
      gpu.device.queue.writeBuffer(operand, at, block, 0, Math.min(block.length, (operand.size - at) / 4));
    }
  }
  return scratch;
}

/** The kernels of a variant, as they are measured. */
function kernelsOf(
  product: Product & Pick<Target, "units">,
  variant: MatmulVariant,
): readonly KernelText[] {
  if (variant.kind !== "tiled" && variant.kind !== "matrix") return [matmul({ ...product, variant })];
  // The same shader serves any number of splits, so it is compiled once.
  const shared = matmul({ ...product, variant: { ...variant, split: 2 } });
  const parts = { ...shared, grid: matmul({ ...product, variant }).grid };
  return variant.split > 1 ? [parts, reduceSplits({ ...product, variant })] : [parts];
}

/** The candidates of a product, compiled and bound. */
async function candidatesOf(
  gpu: Gpu,
  { product, scratch }: { readonly product: Product; readonly scratch: Scratch },
): Promise<Candidate[]> {
  const { group } = product, results = resultsOf(product), { units } = gpu.target;
  const [as, bs] = (["a", "b"] as const).map((side) =>
    Array.from({ length: group?.shared === side ? 1 : group?.count ?? 1 }, () => scratch[side])
  );
  const parts = scratch.parts.slice(0, results), out = scratch.out.slice(0, results);
  const made = variantsOf(gpu, product).map((variant) => ({
    variant,
    kernels: kernelsOf({ ...product, units }, variant),
  }));
  const first = product.paired ? [magnitudes(product, "a"), magnitudes(product, "b")] : [];
  await compileAll(gpu, [...first, ...made.flatMap(({ kernels }) => kernels)]);
  return made.map(({ variant, kernels: [kernel, join] }) => {
    const written = variant.kind === "tiled" || variant.kind === "matrix" ? parts : out;
    const paired = isPaired({ ...product, variant });
    const launches = paired
      ? (["a", "b"] as const).map((name, i) =>
        bound(gpu, magnitudes(product, name), [scratch[name], scratch.largest[i]])
      )
      : [];
    launches.push(bound(gpu, kernel, [...as, ...bs, ...(paired ? scratch.largest : []), ...written]));
    if (join !== undefined) launches.push(bound(gpu, join, parts.flatMap((buffer, i) => [buffer, out[i]])));
    return { variant, pass: { launches, times: 1 } };
  });
}

function bound(gpu: Gpu, kernel: KernelText, buffers: readonly GPUBuffer[]): BoundKernel {
  return bindKernel(gpu, kernel, buffers.map((buffer) => ({ buffer })));
}
