/**
 * PiSSA: pairs that start as the principal part of a weight, which the base loses.
 *
 * @module
 */

import { InputError } from "../errors.ts";
import type { Adapter } from "../models/adapter.ts";
import { declaredParams, type Model } from "../models/model.ts";
import { adapterOf } from "../models/with_adapter.ts";
import { adaptedWeight } from "../nn/lora.ts";
import type { Layout } from "../nn/params.ts";
import { multiply } from "../ops/arithmetic.ts";
import { concat } from "../ops/movement.ts";
import type { Gpu } from "../runtime/device.ts";
import { upload } from "../runtime/upload.ts";
import type { Tensor } from "../tensor.ts";
import { copyToDevice } from "../train/state/upload.ts";
import type { Path } from "../tree.ts";
import { principalPart } from "./principal_part.ts";

/** Whether pairs start as principal parts, by `init_lora_weights`. */
export function isPissa(start: unknown): boolean {
  return typeof start === "string" && start.startsWith("pissa");
}

/** A weight that is taken apart. */
export interface PissaOptions {
  /** Path of its module. */
  readonly path: Path;
  /** Its layout. */
  readonly layout: Layout;
  /** Rank of the pair. */
  readonly rank: number;
  /** Factor of the pair. */
  readonly scale: number;
}

/**
 * The pair that is the principal part of a weight: A and B both take the root of the singular values.
 *
 * Source: Meng, Wang and Zhang, "PiSSA", arXiv 2404.02948, equations 2 and 3.
 *
 * @param gpu The device
 * @param weight The weight
 * @param options Rank, factor and layout
 * @returns f32 [r, in] and [out, r]
 * @throws {InputError} When the weight has fewer singular values than the rank
 */
export async function principalPair(
  gpu: Gpu,
  weight: Tensor,
  { path, rank, scale, layout }: PissaOptions,
): Promise<{ readonly a: Tensor; readonly b: Tensor }> {
  const { left, values, right } = await principalPart(gpu, weight, { rank, layout, path });
  const roots = values.map((value) => Math.sqrt(value / scale)),
    width = right[0].length,
    out = left[0].length;
  const a = Float32Array.from({ length: rank * width }, (_, i) => {
    const j = Math.floor(i / width);
    return roots[j] * right[j][i % width];
  });
  const b = Float32Array.from(
    { length: out * rank },
    (_, i) => roots[i % rank] * left[i % rank][Math.floor(i / rank)],
  );
  return {
    a: upload(gpu, a, { shape: [rank, width], label: `${path}.lora_A.weight` }),
    b: upload(gpu, b, { shape: [out, rank], label: `${path}.lora_B.weight` }),
  };
}

/**
 * What is left of a weight without a pair, f32: `W - scale B A`.
 *
 * @param gpu The device
 * @param weight The weight
 * @param options The pair, its factor, and the layout and path of the weight
 * @returns The rest, on the device
 */
export async function residual(
  gpu: Gpu,
  weight: Tensor,
  { path, layout, scale, a, b }: Omit<PissaOptions, "rank"> & { readonly a: Tensor; readonly b: Tensor },
): Promise<Tensor> {
  return await copyToDevice(gpu, {
    path: `${path}.weight`,
    constant: true,
    source: adaptedWeight(weight, { a, b }, { scale: -scale, layout }),
  });
}

/**
 * The adapter of a model as pairs of twice the rank for its unchanged base: `B A - B0 A0` is what PiSSA has learnt.
 *
 * Source: `subtract_mutated_init` of PEFT.
 *
 * @param gpu The device
 * @param model The model
 * @returns The adapter; its own where its base is unchanged anyway
 * @throws {InputError} When ranks differ by module and alpha is divided by their roots
 */
export async function plainAdapter<I extends object>(gpu: Gpu, model: Model<object, I>): Promise<Adapter> {
  const adapter = adapterOf(model), { source, tensors, layers } = adapter;
  if (!isPissa(source.init_lora_weights)) return adapter;
  const stable = source.use_rslora === true,
    more = (value: unknown): unknown =>
      Object.fromEntries(
        Object.entries((value ?? {}) as Record<string, number>).map(([key, n]) => [key, 2 * n]),
      );
  const patterns = [source.rank_pattern, source.alpha_pattern].some((pattern) =>
    Object.keys(pattern ?? {}).length > 0
  );
  if (stable && patterns) {
    throw new InputError(
      'Cannot make plain pairs of an adapter with "use_rslora" as its ranks and alphas must be the same in all modules: ' +
        "it has patterns of them",
    );
  }
  const next = new Map(tensors), declared = declaredParams(model);
  for (const [path, { scale }] of layers) {
    const weight = model.adapter!.replaced.get(`${path}.weight`),
      names = ["A", "B"].map((half) => `${path}.lora_${half}.weight`);
    if (weight === undefined || !tensors.has(names[0])) continue;
    const [a, b] = names.map((name) => tensors.get(name)!), rank = a.shape[0];
    const { layout = "outIn" } = declared.get(`${path}.weight`) ?? {};
    const first = await principalPair(gpu, weight, { path, rank, scale, layout });
    next.set(names[0], concat([a, first.a], 0));
    next.set(names[1], concat([b, multiply(first.b, -1)], 1));
    next.delete(`${path}.weight`);
  }
  return {
    ...adapter,
    tensors: next,
    text: undefined,
    source: {
      ...source,
      init_lora_weights: true,
      r: 2 * (source.r as number),
      lora_alpha: (stable ? Math.SQRT2 : 2) * (source.lora_alpha as number),
      rank_pattern: more(source.rank_pattern),
      alpha_pattern: more(source.alpha_pattern),
    },
  };
}
