/**
 * Which kernel computes each matrix product of a training: one choice for all its steps, as another kernel may round
 * otherwise.
 *
 * @module
 */

import type { MatmulVariant } from "../../../kernels/matmul/types.ts";
import { chooseMatmul, isVariant } from "../../../kernels/matmul/variants.ts";
import type { Product } from "../../plan/lower/products.ts";
import type { Gpu } from "../../runtime/device.ts";
import type { Target } from "../../kernel_call.ts";
import type { ChosenVariants } from "../types.ts";

/** The choices of a training. They grow with the products that its steps have. */
export interface ProductVariants {
  /** The device with the choices so far: what steps are planned for. */
  readonly target: Target;
  /**
   * Chooses for some products; choices that are made stay.
   *
   * @returns What to wait for while products are measured; null when all are chosen
   */
  choose(products: ReadonlyMap<string, Product>): Promise<void> | null;
  /** All choices. */
  chosen(): ChosenVariants;
  /** Starts again with the choices of a saved run, as far as they fit this adapter and this version. */
  adopt(chosen: ChosenVariants): void;
}

/** Makes the choices of a training, at first none. */
export function productVariants(gpu: Gpu): ProductVariants {
  const variants = new Map<string, MatmulVariant>(), target: Target = { ...gpu.target, variants };
  let saved: ChosenVariants["variants"] = {}, chosen: ChosenVariants = { adapter: gpu.name, variants: {} };
  return {
    target,
    choose(products) {
      const open = new Map<string, Product>();
      for (const [name, product] of products) {
        const known = variants.get(name) ?? saved[name];
        if (isVariant(known, { sizes: product, options: target })) variants.set(name, known);
        else open.set(name, product);
      }
      const settle = (): void => {
        for (const [name, product] of open) {
          const measured = gpu.tuning.variants.get(name) ?? gpu.target.variants?.get(name);
          variants.set(name, measured ?? chooseMatmul(product, target));
        }
        chosen = { adapter: gpu.name, variants: Object.fromEntries(variants) };
      };
      if (gpu.tuning.enabled && open.size > 0) return measure(gpu, open).then(settle);
      settle();
      return null;
    },
    chosen: () => chosen,
    adopt({ adapter, variants: theirs }) {
      saved = adapter === gpu.name ? theirs : {};
      variants.clear();
    },
  };
}

/** Loads what measures only where something is measured: pages never do. */
async function measure(gpu: Gpu, products: ReadonlyMap<string, Product>): Promise<void> {
  const { tune } = await import("../../tune/tune.ts");
  await tune(gpu, products);
}
